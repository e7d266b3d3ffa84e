"""What a remote expert makes of its servers' answers, and which prompts it prepares."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest

from livemind.backends.base import (
    Chunk,
    Message,
    Priority,
    TokenPrompt,
    ToolCall,
    joined,
)
from livemind.backends.errors import (
    PromptRejected,
)
from livemind.backends.messages import joined_calls
from livemind.backends.remote.expert import RemoteExpert

from .scripted import (
    STOPPED,
    USAGE,
    USAGE_ALONE,
    Servers,
    VirtualRun,
    answer,
    check,
    delta,
    sse,
)


def test_generate_stream_becomes_chunks_with_usage_on_the_last(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(delta("Hel"), delta("lo"), STOPPED, USAGE))
    chunks = check(virtual_run, servers, answer)
    assert [chunk.text for chunk in chunks] == ["Hel", "lo", ""]
    assert [chunk.finish_reason for chunk in chunks] == [None, None, "stop"]
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (9, 2, 4)


@pytest.mark.parametrize(
    "events",
    [
        [delta("a", logprobs=None), {**delta("b"), "error": None}, STOPPED, USAGE],
        [delta("a", logprobs={"content": None, "refusal": None}), delta("b"), STOPPED, USAGE],
        [
            delta("a", logprobs={"content": [{"token": "a", "logprob": -0.5}]}),
            delta("b"),
            STOPPED,
            USAGE,
        ],
        [delta("a", finish_reason="stop"), {**delta("b", finish_reason="stop"), **USAGE_ALONE}],
        [delta("ab"), STOPPED, {**delta(""), **USAGE_ALONE}],
        [
            delta("ab", logprobs={"content": [{"token": "ab", "logprob": -math.inf}]}),
            STOPPED,
            USAGE,
        ],
        [delta("ab"), {**USAGE, **STOPPED}],
    ],
    ids=[
        "error null",
        "logprobs null",
        "no alternatives",
        "two ends",
        "usage beside nothing",
        "infinite logprob",
        "usage with the end",
    ],
)
def test_generate_understands_what_servers_send_otherwise(
    virtual_run: VirtualRun, events: list[dict[str, Any]]
) -> None:
    chunks = check(virtual_run, Servers(sse(*events)), answer)
    assert "".join(chunk.text for chunk in chunks) == "ab"
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage.prompt_tokens == 9


def test_generate_halves_of_an_emoji_are_replaced(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(delta("a\ud83d"), delta("\ude00b"), STOPPED))
    chunks = check(virtual_run, servers, answer)
    assert "".join(chunk.text for chunk in chunks) == "a??b"


def called(*calls: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"tool_calls": list(calls)}, "finish_reason": reason}
    return {"choices": [choice]}


def test_generate_calls_of_tools_come_in_pieces_by_index(virtual_run: VirtualRun) -> None:
    events = (
        {"choices": [{"delta": {"reasoning_content": "hm"}}]},
        called({"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}),
        called({"index": 0, "function": {"arguments": '{"x"'}}),
        called({"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}),
        called({"index": 0, "function": {"arguments": ": 1}"}}, reason="tool_calls"),
    )
    chunks: list[Chunk] = []

    async def then(expert: RemoteExpert) -> None:
        chunks.extend(await answer(expert))

    check(virtual_run, Servers(sse(*events)), then)
    whole = joined(chunks)
    assert (whole.text, whole.reasoning, whole.finish_reason) == ("", "hm", "tool_calls")
    first, second = joined_calls(whole.tool_calls)
    assert first == ToolCall("a", "f", '{"x": 1}')
    assert second == ToolCall("b", "g", "{}")


def test_generate_chat_logprobs_and_token_ids_are_read(virtual_run: VirtualRun) -> None:
    top = [{"token": "", "logprob": -2.0}, {"token": "Hi", "logprob": -0.5}]
    top.append({"token": "", "logprob": -1.0})  # parts of characters have no text of their own
    content = [{"token": "Hi", "logprob": -0.5, "top_logprobs": top}]
    event = delta("Hi", token_ids=[42], logprobs={"content": content})
    servers = Servers(sse(event, STOPPED), open_turn=True)
    chunks = check(virtual_run, servers, lambda expert: answer(expert, logprobs=1))
    assert servers.asked[0][2]["return_token_ids"] is True
    assert chunks[0].token_ids == (42,)
    assert chunks[0].logprobs[0].token_id == 42
    assert chunks[0].logprobs[0].top == (("Hi", -1, -0.5), ("", -1, -1.0), ("", -1, -2.0))


@pytest.mark.parametrize(
    "refused", [("return_token_ids",), ("cache_salt",), ("return_token_ids", "cache_salt")]
)
def test_server_that_refuses_fields_of_vllm_is_asked_without_them(
    virtual_run: VirtualRun, refused: tuple[str, ...]
) -> None:
    """A LiveMind behind LiveMind leaves a turn open, and refuses fields that it does not act on."""
    servers = Servers(sse(delta("Hi"), STOPPED), open_turn=True, refused=refused)
    salted = TokenPrompt((), 1, messages=(Message("user", "Hi"),), cache_salt="s")
    check(virtual_run, servers, lambda expert: answer(expert, salted))
    body = servers.asked[0][2]
    assert {"return_token_ids", "cache_salt"} & {*body} == {
        "return_token_ids",
        "cache_salt",
    } - {*refused}

    async def opens(expert: RemoteExpert) -> None:
        assert expert.capabilities.open_turn_prefill

    check(virtual_run, servers, opens)


def test_prefill_open_turn_asks_for_one_token_of_an_unfinished_message(
    virtual_run: VirtualRun,
) -> None:
    usage = {"prompt_tokens": 30, "prompt_tokens_details": {"cached_tokens": 16}}
    servers = Servers(httpx.Response(200, json={"choices": [], "usage": usage}), open_turn=True)

    async def then(expert: RemoteExpert) -> None:
        assert expert.capabilities.open_turn_prefill
        opened = expert.render([Message("user", "what is the ans")], open_turn=True)
        result = await expert.prefill(opened, priority=Priority.SPECULATIVE)
        assert (result.cached, result.computed) == (16, 14)

    check(virtual_run, servers, then)
    body = servers.asked[0][2]
    assert (body["max_tokens"], body["continue_final_message"]) == (1, True)
    assert body["add_generation_prompt"] is False
    assert body["messages"][0]["content"] == "what is the"


def test_generate_begun_answer_goes_on_where_the_server_can(virtual_run: VirtualRun) -> None:
    begun = [Message("user", "what is it?"), Message("assistant", "it is")]
    servers = Servers(sse(STOPPED), open_turn=True)
    check(virtual_run, servers, lambda e: answer(e, e.render(begun, open_turn=False)))
    body = servers.asked[0][2]
    assert (body["add_generation_prompt"], body["continue_final_message"]) == (False, True)
    assert body["messages"][-1] == {"role": "assistant", "content": "it is"}
    others = Servers(sse(STOPPED), open_turn=False)
    with pytest.raises(PromptRejected, match="cannot continue"):
        check(virtual_run, others, lambda e: answer(e, e.render(begun, open_turn=False)))


def test_prefill_server_without_open_turns_is_not_asked(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(STOPPED), open_turn=False)

    async def then(expert: RemoteExpert) -> None:
        assert not expert.capabilities.open_turn_prefill
        opened = expert.render([Message("user", "what is")], open_turn=True)
        with pytest.raises(PromptRejected, match="cannot prefill"):
            await expert.prefill(opened, priority=Priority.SPECULATIVE)

    check(virtual_run, servers, then)
    assert servers.asked == []


def test_prefill_usage_of_another_form_is_an_expert_error(virtual_run: VirtualRun) -> None:
    usage = {"prompt_tokens": 9, "prompt_tokens_details": ["cached"]}
    servers = Servers(httpx.Response(200, json={"choices": [], "usage": usage}))

    async def then(expert: RemoteExpert) -> None:
        prompt = expert.render([Message("user", "Hi")], open_turn=False)
        result = await expert.prefill(prompt, priority=Priority.SPECULATIVE)
        assert (result.cached, result.computed) == (None, 9)

    check(virtual_run, servers, then)


def test_generate_answer_that_comes_whole_is_one_chunk(virtual_run: VirtualRun) -> None:
    body = {"choices": [{"message": {"content": "all"}, "finish_reason": "stop"}]}

    async def then(expert: RemoteExpert) -> None:
        assert [chunk.text for chunk in await answer(expert)] == ["all"]

    check(virtual_run, Servers(httpx.Response(200, json=body)), then)
