"""Every wrong request gets its named error: status, code, param, no prompt in the message."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

USER = {"role": "user", "content": "private words"}
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"


def chat(**fields: Any) -> Any:
    return {"messages": [USER], **fields}


def said(content: Any, role: str = "user") -> Any:
    return {"messages": [{"role": role, "content": content}]}


TOOL = {"type": "function", "function": {"name": "f"}}
IMAGE = [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]

CASES = {
    "broken json": (CHAT, '{"messages": [', 400, "invalid_json", None),
    "empty body": (CHAT, "", 400, "invalid_json", None),
    "not an object": (CHAT, "[1]", 400, "invalid_type", None),
    "lone surrogate": (
        CHAT,
        r'{"messages":[{"role":"user","content":"\ud800"}]}',
        400,
        "invalid_json",
        None,
    ),
    "nan": (
        CHAT,
        '{"messages":[{"role":"user","content":"x"}],"temperature":NaN}',
        400,
        "invalid_value",
        "temperature",
    ),
    "deep nesting": (CHAT, "[" * 5000, 400, "invalid_json", None),
    "unknown field": (CHAT, chat(temprature=1), 400, "unknown_parameter", "temprature"),
    "unsupported field": (CHAT, chat(audio={}), 400, "unsupported_parameter", "audio"),
    "response format": (
        CHAT,
        chat(response_format={"type": "xml"}),
        400,
        None,
        None,
    ),
    "no messages": (CHAT, {}, 400, "missing_parameter", "messages"),
    "empty messages": (CHAT, {"messages": []}, 400, "invalid_value", "messages"),
    "messages not a list": (CHAT, {"messages": "hi"}, 400, "invalid_type", "messages"),
    "unknown role": (CHAT, said("x", "robot"), 400, "invalid_value", "messages[0].role"),
    "content missing": (
        CHAT,
        {"messages": [{"role": "user"}]},
        400,
        "missing_parameter",
        "messages[0].content",
    ),
    "content number": (CHAT, said(5), 400, "invalid_type", "messages[0].content"),
    "message field": (
        CHAT,
        {"messages": [{**USER, "mood": "sad"}]},
        400,
        "unknown_parameter",
        "messages[0].mood",
    ),
    "image part": (
        CHAT,
        said([*IMAGE, {"type": "text", "text": "x"}]),
        400,
        "unsupported_content",
        "messages[0].content[0].image_url.url",
    ),
    "image of the assistant": (
        CHAT,
        {"messages": [{"role": "assistant", "content": IMAGE}, USER]},
        400,
        "unsupported_content",
        "messages[0].content[0]",
    ),
    "image detail": (
        CHAT,
        said([{"type": "image_url", "image_url": {"url": "data:,", "detail": "high"}}]),
        400,
        "unsupported_parameter",
        "messages[0].content[0].image_url.detail",
    ),
    "audio part": (
        CHAT,
        said([{"type": "input_audio", "input_audio": {}}]),
        400,
        "unsupported_content",
        "messages[0].content[0]",
    ),
    "part without text": (
        CHAT,
        said([{"type": "text", "content": "x"}]),
        400,
        "unsupported_content",
        "messages[0].content[0]",
    ),
    "part not an object": (CHAT, said(["x"]), 400, "unsupported_content", "messages[0].content[0]"),
    "last empty": (CHAT, said("  "), 400, "invalid_value", "messages[0].content"),
    "temperature high": (CHAT, chat(temperature=2.5), 400, "invalid_value", "temperature"),
    "temperature text": (CHAT, chat(temperature="hot"), 400, "invalid_type", "temperature"),
    "temperature bool": (CHAT, chat(temperature=True), 400, "invalid_type", "temperature"),
    "top_p zero": (CHAT, chat(top_p=0), 400, "invalid_value", "top_p"),
    "top_k": (CHAT, chat(top_k=-2), 400, "invalid_value", "top_k"),
    "min_p": (CHAT, chat(min_p=1.5), 400, "invalid_value", "min_p"),
    "max_tokens zero": (CHAT, chat(max_tokens=0), 400, "invalid_value", "max_tokens"),
    "max_tokens huge": (CHAT, chat(max_tokens=10**30), 400, None, "max_tokens"),
    "max_tokens twice": (
        CHAT,
        chat(max_tokens=1, max_completion_tokens=2),
        400,
        "invalid_value",
        "max_tokens",
    ),
    "n": (CHAT, chat(n=129), 400, "invalid_value", "n"),
    "seed": (CHAT, chat(seed=2**70), 400, None, "seed"),
    "seed text": (CHAT, chat(seed="private words"), 400, "invalid_type", "seed"),
    "stop too many": (CHAT, chat(stop=["a"] * 65), 400, "invalid_value", "stop"),
    "stop empty": (CHAT, chat(stop=""), 400, "invalid_value", "stop[0]"),
    "penalty": (CHAT, chat(presence_penalty=3), 400, "invalid_value", "presence_penalty"),
    "repetition": (CHAT, chat(repetition_penalty=0), 400, "invalid_value", "repetition_penalty"),
    "logit bias key": (CHAT, chat(logit_bias={"a": 1}), 400, "invalid_value", None),
    "logit bias value": (CHAT, chat(logit_bias={"1": 500}), 400, "invalid_value", "logit_bias.1"),
    "top_logprobs alone": (
        CHAT,
        chat(top_logprobs=2),
        400,
        "unsupported_parameter",
        "top_logprobs",
    ),
    "top_logprobs high": (
        CHAT,
        chat(logprobs=True, top_logprobs=21),
        400,
        "invalid_value",
        "top_logprobs",
    ),
    "logprobs number": (CHAT, chat(logprobs=1), 400, "invalid_type", "logprobs"),
    "stream_options alone": (
        CHAT,
        chat(stream_options={"include_usage": True}),
        400,
        "unsupported_parameter",
        "stream_options",
    ),
    "stream_options field": (
        CHAT,
        chat(stream=True, stream_options={"x": 1}),
        400,
        "unknown_parameter",
        "stream_options.x",
    ),
    "model number": (CHAT, chat(model=3), 400, "invalid_type", "model"),
    "unknown model": (CHAT, chat(model="nope"), 404, "model_not_found", "model"),
    "documents text": (CHAT, chat(documents="x"), 400, "invalid_type", "documents"),
    "documents long": (CHAT, chat(documents=["x" * 3000]), 413, "text_too_long", "documents"),
    "messages long": (CHAT, said("x" * 3000), 413, "text_too_long", "messages"),
    "body large": (CHAT, said("x" * 10_000_000), 413, "payload_too_large", None),
    "speculation": (CHAT, chat(speculation="yes"), 400, "invalid_value", "speculation"),
    "prompt missing": (TEXT, {}, 400, "missing_parameter", "prompt"),
    "prompt number": (TEXT, {"prompt": 5}, 400, "invalid_type", "prompt"),
    "prompt mixed": (TEXT, {"prompt": ["a", 5]}, 400, "invalid_type", "prompt"),
    "prompt empty": (TEXT, {"prompt": ""}, 400, "invalid_value", "prompt"),
    "prompt of none": (TEXT, {"prompt": []}, 400, "invalid_value", "prompt"),
    "prompt with an empty one": (TEXT, {"prompt": ["a", ""]}, 400, "invalid_value", "prompt"),
    "prompt token below 0": (TEXT, {"prompt": [1, -2]}, 400, "invalid_value", "prompt"),
    "prompts too many": (TEXT, {"prompt": ["a"] * 2049}, 400, "invalid_value", "prompt"),
    "prompt long": (TEXT, {"prompt": "x" * 3000}, 413, "text_too_long", "prompt"),
    "nothing to generate": (TEXT, {"prompt": "a", "max_tokens": 0}, 400, None, "max_tokens"),
    "echo of a chat": (CHAT, chat(echo=True), 400, "unsupported_parameter", "echo"),
    "more than fits": (CHAT, chat(min_tokens=9, max_tokens=5), 400, None, "min_tokens"),
    "required without tools": (CHAT, chat(tool_choice="required"), 400, None, "tool_choice"),
    "unknown tool": (
        CHAT,
        chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "g"}}),
        400,
        "invalid_value",
        "tool_choice.function.name",
    ),
    "tool of another kind": (CHAT, chat(tools=[{"type": "web"}]), 400, None, "tools[0].type"),
    "two forms": (
        CHAT,
        chat(structured_outputs={"regex": "a"}, response_format={"type": "json_object"}),
        400,
        "invalid_value",
        "structured_outputs",
    ),
    "form of two kinds": (
        CHAT,
        chat(structured_outputs={"regex": "a", "choice": ["b"]}),
        400,
        "invalid_value",
        "structured_outputs",
    ),
    "form without schema": (
        CHAT,
        chat(response_format={"type": "json_schema", "json_schema": {"name": "x"}}),
        400,
        "missing_parameter",
        None,
    ),
    "suffix": (TEXT, {"prompt": "a", "suffix": "b"}, 400, "unsupported_parameter", "suffix"),
    "best_of": (TEXT, {"prompt": "a", "best_of": 2}, 400, "unsupported_parameter", "best_of"),
    "text logprobs": (TEXT, {"prompt": "a", "logprobs": 50}, 400, "invalid_value", "logprobs"),
    "text model": (TEXT, {"prompt": "a", "model": "nope"}, 404, "model_not_found", "model"),
    "text messages": (TEXT, {"prompt": "a", "messages": []}, 400, "unknown_parameter", "messages"),
}


@pytest.mark.parametrize("name", CASES)
async def test_bad_request_is_refused_by_name(serve: Any, name: str) -> None:
    path, body, status, code, param = CASES[name]
    data = io.BytesIO((body if isinstance(body, str) else json.dumps(body)).encode())
    async with serve(max_text_chars=2000) as doors:
        async with doors.http.post(doors.url + path, data=data) as response:
            answer = (await response.json())["error"]
            assert response.status == status, answer
        if code is not None:
            assert answer["code"] == code, answer
        if param is not None:
            assert answer["param"] == param, answer
            assert answer["message"].startswith(param)
        assert "private words" not in json.dumps(answer)
        assert len(answer["message"]) < 400
        assert doors.experts["fake"].started == 0
        assert len(doors.state.registry) == 0
        assert (await doors.chat())[0] == 200


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("temperature", 2.5, "2.5"),
        ("max_tokens", 0, "0"),
        ("n", 300, "300"),
        ("speculation", "x", '"x"'),
    ],
)
async def test_bad_value_is_shown_with_what_is_needed(
    serve: Any, field: str, value: Any, shown: str
) -> None:
    async with serve() as doors:
        _, answer = await doors.post(CHAT, chat(**{field: value}))
        assert answer["error"]["message"].startswith(f"{field}: got {shown}; input should be")


async def test_null_of_a_field_means_that_it_is_absent(serve: Any) -> None:
    async with serve() as doors:
        nulls = dict.fromkeys(["model", "n", "stop", "seed", "tools", "stream", "logprobs", "user"])
        status, answer = await doors.post(CHAT, chat(**nulls))
        assert status == 200, answer


async def test_unknown_path_is_a_404_envelope(serve: Any) -> None:
    async with serve() as doors:
        status, answer = await doors.ask("GET", "/v2/nothing")
        assert (status, answer["error"]["code"]) == (404, "unknown_path")


async def test_wrong_method_is_a_405_envelope_with_allow(serve: Any) -> None:
    async with serve() as doors, doors.http.get(doors.url + CHAT) as response:
        assert response.status == 405
        assert response.headers["Allow"] == "POST"
        assert (await response.json())["error"]["code"] == "method_not_allowed"


async def test_session_header_on_completions_is_refused(serve: Any) -> None:
    async with serve() as doors:
        headers = {"X-LiveMind-Session": "sess_x"}
        status, answer = await doors.post(TEXT, {"prompt": "a"}, headers=headers)
        assert (status, answer["error"]["param"]) == (400, "X-LiveMind-Session")


async def test_plain_get_on_live_is_refused(serve: Any) -> None:
    async with serve() as doors:
        status, answer = await doors.ask("GET", "/v1/live")
        assert (status, answer["error"]["code"]) == (400, "upgrade_required")
        assert len(doors.state.registry) == 0
