"""Several answers to one request, and what streams tell beside their texts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from livemind.backends.base import Message, TokenPrompt
from livemind.backends.errors import ExpertUnavailable
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.server.openai import answering

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"


async def events_of(doors: Any, path: str, body: Any) -> list[Any]:
    async with doors.http.post(doors.url + path, json={**body, "stream": True}) as response:
        blocks = (await response.text()).split("\n\n")[:-1]
    assert blocks[-1] == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-1]]


@pytest.mark.usefixtures("both_ways")
async def test_chat_gives_as_many_answers_as_asked(serve: Any, body: Any) -> None:
    expert = FakeExpert("fake")
    async with serve(expert) as doors:
        status, answer = await doors.post(CHAT, body("one two", n=3))
        assert status == 200
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
        texts = {choice["message"]["content"] for choice in answer["choices"]}
        assert texts == {"ONE TWO"}
        prompt = answer["usage"]["prompt_tokens"]
        assert answer["usage"]["completion_tokens"] == 6
        _, single = await doors.post(CHAT, body("one two"))
        assert single["usage"]["prompt_tokens"] == prompt
        await doors.quiet()
        assert expert.running == 0


@pytest.mark.usefixtures("both_ways")
async def test_chat_stream_of_several_answers_keeps_them_apart(serve: Any, body: Any) -> None:
    async with serve() as doors:
        request = body("one two", n=2, stream_options={"include_usage": True})
        events = await events_of(doors, CHAT, request)
        texts, reasons = {0: "", 1: ""}, {}
        for event in events[:-1]:
            (choice,) = event["choices"]
            texts[choice["index"]] += choice["delta"].get("content") or ""
            if choice["finish_reason"]:
                reasons[choice["index"]] = choice["finish_reason"]
        assert texts == {0: "ONE TWO", 1: "ONE TWO"}
        assert reasons == {0: "stop", 1: "stop"}
        assert len({event["id"] for event in events}) == 1
        assert events[-1]["usage"]["completion_tokens"] == 4


async def test_chat_answers_have_seeds_of_their_own(serve: Any) -> None:
    seeds = []

    class Seeing(FakeExpert):
        def generate(self, prompt: Any, params: Any, **more: Any) -> Any:
            seeds.append(params.seed)
            return super().generate(prompt, params, **more)

    async with serve(Seeing("fake")) as doors:
        await doors.chat("x", n=3, seed=7)
        assert sorted(seeds) == [7, 8, 9]


async def test_chat_of_a_live_session_gives_one_answer(serve: Any, body: Any) -> None:
    async with serve() as doors:
        headers = {"X-LiveMind-Session": "sess_x"}
        status, answer = await doors.post(CHAT, body("x", n=2), headers=headers)
        assert (status, answer["error"]["param"]) == (400, "n")


async def test_answer_that_fails_ends_the_request_and_frees_the_others(
    serve: Any, body: Any
) -> None:
    expert = FakeExpert("fake", token_s=0.01)
    async with serve(expert) as doors:
        expert.crash_after_tokens = 1
        status, _ = await doors.post(CHAT, body("one two three", n=4))
        assert status == 503
        await doors.quiet()


async def test_prompts_in_a_list_are_each_continued(serve: Any) -> None:
    async with serve() as doors:
        prompts = ["a b", "c", "d e f"]
        status, answer = await doors.post(TEXT, {"prompt": prompts, "n": 2})
        assert status == 200
        texts = [choice["text"] for choice in answer["choices"]]
        assert texts == ["A B", "A B", "C", "C", "D E F", "D E F"]
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3, 4, 5]
        assert answer["usage"]["prompt_tokens"] == 6
        assert answer["usage"]["completion_tokens"] == 12
        events = await events_of(doors, TEXT, {"prompt": prompts})
        streamed = ["", "", ""]
        for event in events:
            streamed[event["choices"][0]["index"]] += event["choices"][0]["text"]
        assert streamed == ["A B", "C", "D E F"]


async def test_one_prompt_in_a_list_is_one_prompt(serve: Any) -> None:
    async with serve() as doors:
        _, answer = await doors.post(TEXT, {"prompt": ["a b"]})
        assert [choice["text"] for choice in answer["choices"]] == ["A B"]


async def test_prompts_may_be_tokens(serve: Any) -> None:
    async with serve() as doors:
        _, answer = await doors.post(TEXT, {"prompt": [5, 6, 7]})
        assert [choice["text"] for choice in answer["choices"]] == ["5 6 7"]
        assert answer["usage"]["prompt_tokens"] == 3
        _, answer = await doors.post(TEXT, {"prompt": [[5, 6], [7]]})
        assert [choice["text"] for choice in answer["choices"]] == ["5 6", "7"]


async def test_echo_with_no_tokens_to_generate_scores_the_prompt(serve: Any) -> None:
    async with serve() as doors:
        request = {"prompt": ["one two"], "echo": True, "max_tokens": 0, "logprobs": 1}
        status, answer = await doors.post(TEXT, request)
        assert status == 200
        (choice,) = answer["choices"]
        assert choice["text"] == "one two"
        assert choice["finish_reason"] == "length"
        assert choice["logprobs"]["tokens"] == ["one", " two"]
        assert choice["logprobs"]["token_logprobs"] == [None, 0.0]
        assert choice["logprobs"]["top_logprobs"][0] is None
        assert choice["logprobs"]["text_offset"] == [0, 3]
        assert answer["usage"] == {
            "prompt_tokens": 2,
            "completion_tokens": 0,
            "total_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 0},
        }


async def test_echo_before_an_answer(serve: Any) -> None:
    async with serve() as doors:
        _, answer = await doors.post(TEXT, {"prompt": "one two", "echo": True, "max_tokens": 1})
        assert answer["choices"][0]["text"] == "one twoONE"
        assert answer["usage"]["completion_tokens"] == 1


@pytest.mark.usefixtures("both_ways")
async def test_stream_tells_the_usage_so_far_in_every_chunk(serve: Any, body: Any) -> None:
    async with serve() as doors:
        options = {"include_usage": True, "continuous_usage_stats": True}
        events = await events_of(doors, CHAT, body("one two three", stream_options=options))
        counted = [event["usage"]["completion_tokens"] for event in events]
        assert counted == [0, 1, 2, 3, 3, 3]
        prompts = {event["usage"]["prompt_tokens"] for event in events}
        assert len(prompts) == 1
        assert prompts != {0}
    async with serve() as doors:
        request = {"prompt": "a b", "stream_options": {"continuous_usage_stats": True}}
        events = await events_of(doors, TEXT, request)
        assert [event["usage"]["completion_tokens"] for event in events] == [1, 2, 2]


async def test_stream_is_padded_where_that_is_asked_for(serve: Any, body: Any) -> None:
    async with serve() as doors:
        options = {"include_obfuscation": True}
        events = await events_of(doors, CHAT, body("a b", stream_options=options))
        assert all(event["obfuscation"] for event in events)
        events = await events_of(doors, CHAT, body("a b"))
        assert not any("obfuscation" in event for event in events)


LIMITS = ("max_tokens", "max_completion_tokens")


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.usefixtures("both_ways")
async def test_limit_that_does_not_fit_is_refused_in_the_clients_words(
    serve: Any, body: Any, name: str
) -> None:
    async with serve(FakeExpert("fake", max_model_len=64), FakeExpert("other")) as doors:
        status, answer = await doors.post(CHAT, body("a b", model="fake", **{name: 1000}))
        assert (status, answer["error"]["param"]) == (400, name)
        assert answer["error"]["message"].startswith(f"{name}=1000")


@pytest.mark.usefixtures("both_ways")
async def test_limit_that_does_not_fit_is_an_upper_bound_for_auto_and_clamp(
    serve: Any, body: Any
) -> None:
    expert = FakeExpert("fake", max_model_len=64)
    async with serve(expert) as doors:
        for fields in (
            {"model": "auto"},
            {},
            {"model": "fake", "max_tokens_policy": "clamp"},
        ):
            status, answer = await doors.post(CHAT, body("a b", max_tokens=1000, **fields))
            assert status == 200, answer
        status, _ = await doors.post(TEXT, {"prompt": "a", "max_tokens": 1000})
        assert status == 200
    async with serve(expert, max_tokens_policy="clamp") as doors:
        status, _ = await doors.post(CHAT, body("a b", model="fake", max_tokens=1000))
        assert status == 200


async def test_parameters_of_vllm_reach_the_expert(serve: Any, body: Any) -> None:
    seen = []

    class Seeing(FakeExpert):
        def generate(self, prompt: Any, params: Any, **more: Any) -> Any:
            seen.append((prompt, params))
            return super().generate(prompt, params, **more)

    async with serve(Seeing("fake")) as doors:
        fields = {"min_tokens": 1, "stop_token_ids": [5], "skip_special_tokens": False}
        await doors.post(CHAT, body("x", chat_template_kwargs={"a": 1}, **fields))
        prompt, params = seen[0]
        given = (params.min_tokens, params.stop_token_ids, params.skip_special_tokens)
        assert given == (1, (5,), False)
        assert json.loads(prompt.messages[0].content) == {"chat_template_kwargs": {"a": 1}}
        await doors.post(TEXT, {"prompt": "x", **fields})
        assert seen[1][1].min_tokens == 1


async def test_more_stops_than_four_are_taken(serve: Any, body: Any) -> None:
    def answer(messages: Sequence[Message]) -> str:
        return "a b c d e f"

    async with serve(FakeExpert("fake", answer=answer)) as doors:
        stops = [" z", " y", " x", " w", " v", " e"]
        _, answered = await doors.post(CHAT, body("x", stop=stops))
        assert answered["choices"][0]["message"]["content"] == "a b c d"


class Held(FakeExpert):
    """Answers once it may."""

    def __init__(self) -> None:
        super().__init__("fake")
        self.may = asyncio.Event()

    async def _compute(self, prompt: TokenPrompt) -> int:
        await self.may.wait()
        return await super()._compute(prompt)


@pytest.mark.usefixtures("both_ways")
async def test_stream_that_waits_for_its_expert_is_kept_open_by_comments(
    serve: Any, body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "QUIET_S", 0.02)
    expert = Held()
    async with serve(expert) as doors:
        request = body("one two", stream=True)
        async with doors.http.post(doors.url + CHAT, json=request) as response:
            came = b"".join([await response.content.readuntil(b"\n\n") for _ in range(2)])
            expert.may.set()
            blocks = (came + await response.read()).decode().split("\n\n")[:-1]
        comments = [block for block in blocks if block.startswith(": ")]
        assert len(comments) >= 2
        assert blocks[: len(comments)] == comments
        events = [json.loads(block[6:]) for block in blocks[len(comments) : -1]]
        texts = [event["choices"][0]["delta"].get("content") or "" for event in events]
        assert "".join(texts) == "ONE TWO"
        expert.refuse = ExpertUnavailable("fake", "gone")
        status, _ = await doors.post(CHAT, request)
        assert status == 503


async def test_unknown_path_is_told_what_is_served(serve: Any) -> None:
    async with serve() as doors:
        status, answer = await doors.post("/v1/chats", {})
        assert status == 404
        assert "/v1/chat/completions" in answer["error"]["message"]


async def test_several_answers_tell_what_became_of_the_prediction_and_how_each_came_to_be(
    serve: Any, body: Any
) -> None:
    async with serve(FakeExpert("fake", drafts=True)) as doors:
        predicted = {"type": "content", "content": "ONE TWO"}
        request = body("one two", n=2, prediction=predicted, livemind=True)
        _, answer = await doors.post(CHAT, request)
        details = answer["usage"]["completion_tokens_details"]
        assert details["accepted_prediction_tokens"] == 4
        assert details["rejected_prediction_tokens"] == 0
        ledgers = [choice["livemind"]["ledger"] for choice in answer["choices"]]
        assert len(ledgers) == 2
        assert "livemind" not in answer


@pytest.mark.parametrize("policy", ["first", "draft", "verify", "vote"])
@pytest.mark.parametrize("answers", [1, 2])
async def test_consensus_with_tools_gives_calls_and_logprobs_in_every_answer(
    serve: Any, body: Any, policy: str, answers: int
) -> None:
    def answer(messages: Sequence[Message]) -> str:
        return 'let me see <tool_call>{"name": "look", "arguments": {"at": "x"}}</tool_call>'

    fakes = [FakeExpert(name, answer=answer, drafts=True) for name in ("fast", "strong")]
    tools = [{"type": "function", "function": {"name": "look"}}]
    async with serve(*fakes, fast="fast") as doors:
        fields = {"model": "strong", "consensus": policy, "tools": tools, "n": answers}
        status, whole = await doors.post(CHAT, body("hm", **fields, logprobs=True))
        assert status == 200
        assert len(whole["choices"]) == answers
        for choice in whole["choices"]:
            (call,) = choice["message"]["tool_calls"]
            assert json.loads(call["function"]["arguments"]) == {"at": "x"}
            assert choice["finish_reason"] == "tool_calls"
            assert len(choice["logprobs"]["content"]) >= 3
