"""What of a prompt and its parameters reaches a server, and in which form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from livemind.backends.base import (
    GenerationParams,
    Image,
    Message,
    MessageDetails,
    StructuredOutput,
)
from livemind.backends.errors import (
    PromptRejected,
)
from livemind.backends.remote.expert import RemoteExpert
from livemind.backends.sampling import HINTS

from .scripted import (
    CALL,
    STOPPED,
    TOOL,
    Servers,
    VirtualRun,
    answer,
    check,
    delta,
    sse,
)


def test_generate_every_parameter_reaches_the_body(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(delta("x"), STOPPED))
    params: dict[str, Any] = {
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "repetition_penalty": 1.1,
        "seed": 3,
        "stop": ("a", "b"),
        "logit_bias": ((5, 1.0),),
        "logprobs": 2,
        "ignore_eos": True,
        "stop_token_ids": (7, 8),
        "min_tokens": 2,
        "skip_special_tokens": False,
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    check(virtual_run, servers, lambda expert: answer(expert, **params))
    body = servers.asked[0][2]
    expected = {
        **params,
        "stop": ["a", "b"],
        "logit_bias": {"5": 1.0},
        "logprobs": True,
        "stop_token_ids": [7, 8],
    }
    elsewhere = {*HINTS, "structured", "tool_name", "echo"}
    assert set(GenerationParams.__struct_fields__) - elsewhere == set(params)
    assert {name: body[name] for name in params} == expected
    assert body["top_logprobs"] == 2
    assert (body["model"], body["stream"]) == ("m", True)
    assert body["messages"] == [{"role": "user", "content": "Hi"}]


STRUCTURED: dict[str, tuple[StructuredOutput, dict[str, object]]] = {
    "object": (
        StructuredOutput(json_object=True),
        {"response_format": {"type": "json_object"}},
    ),
    "schema": (
        StructuredOutput(json='{"type": "object"}'),
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
            }
        },
    ),
    "regex": (StructuredOutput(regex="a+"), {"structured_outputs": {"regex": "a+"}}),
    "choice": (StructuredOutput(choice=("a", "b")), {"structured_outputs": {"choice": ["a", "b"]}}),
    "grammar": (StructuredOutput(grammar="x"), {"structured_outputs": {"grammar": "x"}}),
}


@pytest.mark.parametrize("name", STRUCTURED)
def test_generate_form_of_the_answer_reaches_the_body(virtual_run: VirtualRun, name: str) -> None:
    wanted, told = STRUCTURED[name]
    servers = Servers(sse(delta("x"), STOPPED))
    check(virtual_run, servers, lambda expert: answer(expert, structured=wanted))
    assert servers.asked[0][2].items() >= told.items()


def test_generate_tools_calls_and_results_reach_the_body(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(delta("x"), STOPPED))
    messages = [
        Message("template", json.dumps({"tools": [TOOL], "add_generation_prompt": True})),
        Message("user", "Hot?", details=MessageDetails(name="ann")),
        Message("assistant", "", details=MessageDetails(tool_calls=(CALL,), reasoning="hm")),
        Message("tool", "12", details=MessageDetails(tool_call_id="call_1")),
    ]

    async def then(expert: RemoteExpert) -> None:
        prompt = expert.render(messages, open_turn=False)
        await answer(expert, prompt, tool_choice="named", tool_name="weather")

    check(virtual_run, servers, then)
    body = servers.asked[0][2]
    assert body["tools"] == [TOOL]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert "add_generation_prompt" not in body
    function = {"name": "weather", "arguments": '{"city": "Bern"}'}
    assert body["messages"] == [
        {"role": "user", "content": "Hot?", "name": "ann"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        },
        {"role": "tool", "content": "12", "tool_call_id": "call_1"},
    ]


def test_generate_images_are_sent_as_parts_before_the_text(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(delta("x"), STOPPED))
    message = Message("user", "What is this?", (Image("image/png", b"red"),))

    async def then(expert: RemoteExpert) -> None:
        assert expert.capabilities.images
        prompt = expert.render([Message("documents", "facts"), message], open_turn=False)
        await answer(expert, prompt)

    check(virtual_run, servers, then, images=True)
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,cmVk"}}
    text = {"type": "text", "text": "facts\n\nWhat is this?"}
    assert servers.asked[0][2]["messages"] == [{"role": "user", "content": [url, text]}]


def test_render_images_for_servers_that_take_none_are_refused(virtual_run: VirtualRun) -> None:
    async def then(expert: RemoteExpert) -> None:
        assert not expert.capabilities.images
        with pytest.raises(PromptRejected, match="takes no images"):
            expert.render([Message("user", "a", (Image("image/png", b"x"),))], open_turn=False)

    check(virtual_run, Servers(sse(STOPPED)), then)


def test_generate_nothing_set_sends_only_the_default_length(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(delta("x"), STOPPED))
    check(virtual_run, servers, answer)
    assert set(servers.asked[0][2]) == {
        "model",
        "messages",
        "max_tokens",
        "stream",
        "stream_options",
    }
    assert servers.asked[0][2]["max_tokens"] == 512


def test_generate_plain_prompt_goes_to_completions(virtual_run: VirtualRun) -> None:
    event = {
        "choices": [
            {
                "text": "ab",
                "logprobs": {
                    "tokens": ["a", "b"],
                    "token_logprobs": [-0.1, -0.2],
                    "top_logprobs": [{"a": -0.1, "c": -3.0}, None],
                },
                "finish_reason": "length",
            }
        ]
    }
    servers = Servers(sse(event))
    chunks = check(
        virtual_run, servers, lambda e: answer(e, e.tokenize("Once upon"), max_tokens=2, logprobs=1)
    )
    assert servers.asked[0][1] == "/v1/completions"
    assert servers.asked[0][2]["prompt"] == "Once upon"
    assert servers.asked[0][2]["logprobs"] == 1
    assert [(e.token, e.logprob) for e in chunks[0].logprobs] == [("a", -0.1), ("b", -0.2)]
    assert chunks[0].logprobs[0].top == (("a", -1, -0.1), ("c", -1, -3.0))
    assert chunks[0].finish_reason == "length"


def test_render_documents_are_folded_and_the_growing_word_is_cut(virtual_run: VirtualRun) -> None:
    async def then(expert: RemoteExpert) -> None:
        messages = [Message("documents", "facts"), Message("user", "what is the ans")]
        opened = expert.render(messages, open_turn=True)
        assert opened.messages == (Message("user", "facts\n\nwhat is the"),)
        assert opened.open_turn
        closed = expert.render(messages, open_turn=False)
        assert closed.messages == (Message("user", "facts\n\nwhat is the ans"),)
        assert closed.num_tokens > opened.num_tokens > 0
        with pytest.raises(PromptRejected):
            expert.render([Message("assistant", "a")], open_turn=True)
        with pytest.raises(PromptRejected):
            await answer(expert, opened)

    check(virtual_run, Servers(sse(STOPPED)), then)
