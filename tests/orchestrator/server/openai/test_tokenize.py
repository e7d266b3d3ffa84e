"""``/tokenize`` and ``/detokenize``: what an expert's tokenizer says, without a limit."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from livemind.backends.fake import FakeExpert

TOOL = {"type": "function", "function": {"name": "look"}}


async def test_tokens_of_a_text_come_back_as_that_text(serve: Any) -> None:
    async with serve(FakeExpert("fake", max_model_len=2)) as doors:
        body = {"model": "fake", "prompt": "one two three", "return_token_strs": True}
        status, told = await doors.post("/tokenize", body)
        assert (status, told["count"], told["max_model_len"]) == (200, 3, 2)
        assert told["token_strs"] == ["one", "two", "three"]
        status, text = await doors.post("/detokenize", {"tokens": told["tokens"]})
        assert (status, text) == (200, {"prompt": "one two three"})
        _, plain = await doors.post("/tokenize", {"prompt": ""})
        assert (plain["count"], plain["token_strs"]) == (0, None)


async def test_tokens_of_a_conversation_are_those_of_its_answer(serve: Any, body: Any) -> None:
    async with serve() as doors:
        request = body("one two", tools=[TOOL], max_tokens=3)
        _, told = await doors.post("/tokenize", request)
        _, answer = await doors.post("/v1/chat/completions", request)
        assert told["count"] == answer["usage"]["prompt_tokens"]


async def test_tokenizer_is_told_as_it_is_set(serve: Any) -> None:
    async with serve() as doors, aiohttp.ClientSession() as http:
        found = await http.get(f"{doors.url}/tokenizer_info")
        assert found.status == 200
        told = await found.json()
        assert told["tokenizer_class"]
        assert told["chat_template"]
        found = await http.get(f"{doors.url}/tokenizer_info?model=nobody")
        assert found.status == 404


WRONG: dict[str, tuple[str, Any, int, str | None]] = {
    "nothing": ("/tokenize", {}, 400, "prompt"),
    "model": ("/tokenize", {"prompt": "x", "model": "other"}, 404, "model"),
    "long": ("/tokenize", {"prompt": "x" * 3000}, 413, "prompt"),
    "field": ("/tokenize", {"prompt": "x", "mood": 1}, 400, "mood"),
    "message": ("/tokenize", {"messages": [{"role": "nobody", "content": ""}]}, 400, None),
    "image": (
        "/tokenize",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:,"}}],
                }
            ]
        },
        400,
        "messages[0].content[0].image_url.url",
    ),
    "negative": ("/detokenize", {"tokens": [-1]}, 400, "tokens[0]"),
    "unknown token": ("/detokenize", {"tokens": [5]}, 400, "tokens"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_tokenize_refuses_by_name(serve: Any, name: str) -> None:
    path, body, status, param = WRONG[name]
    async with serve(max_text_chars=2500) as doors:
        got, answer = await doors.post(path, body)
        assert got == status, answer
        assert param is None or answer["error"]["param"] == param, answer


async def test_tokenize_of_an_expert_elsewhere_says_whom_to_ask(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeExpert, "tokenizer", None)
    async with serve() as doors:
        status, answer = await doors.post("/tokenize", {"prompt": "x"})
        assert (status, answer["error"]["code"]) == (400, "no_tokenizer")
