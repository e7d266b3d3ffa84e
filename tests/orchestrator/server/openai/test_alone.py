"""A request that one expert answers alone has no session; every other one has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import TypeAdapter

from livemind.backends.base import Chunk, Message, Usage
from livemind.backends.fake import FakeExpert
from livemind.backends.remote.affinity import affinity_key
from livemind.orchestrator.consensus.report import Report
from livemind.orchestrator.server.middleware import TurnFailed
from livemind.orchestrator.server.openai.alone import AloneTurn, chat_alone
from livemind.orchestrator.server.openai.bodies import ChatRequest

from ..conftest import Doors, chat_body, eventually

CHAT = TypeAdapter(ChatRequest)
PATH = "/v1/chat/completions"


def turn_of(doors: Doors, **fields: Any) -> AloneTurn | None:
    return chat_alone(doors.state, CHAT.validate_json(json.dumps(chat_body(**fields))), "req")


def sole(doors: Doors, **fields: Any) -> str | None:
    turn = turn_of(doors, **fields)
    return None if turn is None else turn.expert


def two(**given: Any) -> list[FakeExpert]:
    return [FakeExpert("one"), FakeExpert("two", **given)]


async def test_request_that_names_an_expert_needs_no_session(serve: Any) -> None:
    async with serve(*two()) as doors:
        assert sole(doors, model="one") == "one"
        assert sole(doors, model="two", documents=["d"], consensus="first") == "two"


async def test_request_to_the_only_expert_needs_no_session(serve: Any) -> None:
    async with serve() as doors:
        assert sole(doors) == sole(doors, model="auto") == "fake"


@pytest.mark.parametrize(
    "fields",
    [{}, {"model": "one", "livemind": True}, {"model": "one", "consensus": "vote"}],
    ids=["routed", "explained", "voted"],
)
async def test_request_with_something_to_decide_needs_a_session(
    serve: Any, fields: dict[str, Any]
) -> None:
    async with serve(*two()) as doors:
        assert sole(doors, **fields) is None


async def test_request_to_an_expert_that_verifies_drafts_needs_a_session(serve: Any) -> None:
    async with serve(*two(drafts=True)) as doors:
        assert sole(doors, model="two") is None
        assert sole(doors, model="two", consensus="first") == "two"


async def test_request_to_an_expert_that_is_not_loaded_needs_a_session(serve: Any) -> None:
    lazy = {"warmup_pool_size": 1, "max_loaded_experts": 1}
    async with serve(*two(), lazy_loading=lazy) as doors:
        states = {info.expert_id: info.state for info in doors.mind.experts()}
        cold = next(name for name, state in states.items() if state == "unloaded")
        assert sole(doors, model=cold) is None
        status, answer = await doors.chat(model=cold)
        assert (status, answer["model"]) == (200, cold)


CONVERSATION = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "ONE"},
    {"role": "user", "content": "two "},
]


@pytest.mark.parametrize(
    "fields",
    [
        {"documents": ["d"]},
        {"logprobs": True, "top_logprobs": 1, "max_tokens": 1},
        {"prediction": {"type": "content", "content": "four"}, "stop": ["five"]},
    ],
    ids=["documents", "logprobs", "prediction"],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_answers_with_and_without_a_session_are_alike(
    serve: Any, fields: dict[str, Any], stream: bool
) -> None:
    seen: list[list[Message]] = []

    def answer(given: Sequence[Message]) -> str:
        seen.append(list(given))
        return "four five six"

    if stream:
        fields = {**fields, "stream": True, "stream_options": {"include_usage": True}}
    async with serve(FakeExpert("fake", answer=answer)) as doors:
        found, headers = [], []
        for explained in (None, True):
            body = {"messages": CONVERSATION, "livemind": explained, **fields}
            body["cache_salt"] = str(explained)
            async with doors.http.post(doors.url + PATH, json=body) as response:
                text = await response.text()
            headers.append(sorted(response.headers))
            blocks = text.split("\n\n")[:-1] if stream else [text]
            found.append([bare(block.removeprefix("data: ")) for block in blocks])
        assert found[0] == found[1]
        assert headers[0] == headers[1]
        assert seen[0] == seen[1]
        assert doors.mind.stats()["turns"]["completed"] == 2
        assert doors.state.metrics.stats()["turns_completed"] == 2
        spans = b'policy="first",settled_by="author"} 2.0'
        assert spans in doors.state.metrics.render()


def bare(block: str) -> object:
    """Return an event without what differs from answer to answer."""
    if block == "[DONE]":
        return block
    payload = json.loads(block)
    return {key: payload[key] for key in payload if key not in ("id", "created", "livemind")}


async def test_refused_request_is_no_turn(serve: Any) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with serve(expert, max_concurrent_turns=1, max_waiting_turns=0) as doors:
        asked = asyncio.create_task(doors.chat())
        await eventually(lambda: expert.running == 1)
        status, _ = await doors.chat()
        assert status == 429
        asked.cancel()
        await doors.quiet()
        turns, tally = doors.mind.stats()["turns"], doors.state.metrics.stats()
        assert (turns.get("cancelled"), turns.get("failed")) == (1, None)
        assert {name for name in tally if name.startswith("turns_")} == {"turns_cancelled"}
        assert tally["prompt_tokens"] == 5


async def test_turn_whose_expert_does_not_let_go_is_counted(serve: Any) -> None:
    async def chunks() -> Any:
        try:
            yield Chunk("four")
        finally:
            raise ValueError("stuck")

    async with serve() as doors:
        with pytest.raises(ValueError, match="stuck"):
            async with AloneTurn(doors.state, "r", "fake", chunks(), None, Report()) as turn:
                await anext(turn)
        assert doors.state.metrics.stats()["turns_cancelled"] == 1


async def test_connection_of_the_expert_is_not_taken_for_the_clients(serve: Any) -> None:
    async def chunks() -> Any:
        raise ConnectionResetError("by the expert")
        yield

    async with serve() as doors:
        with pytest.raises(TurnFailed):
            async with AloneTurn(doors.state, "r", "fake", chunks(), None, Report()) as turn:
                await anext(turn)
        assert doors.state.metrics.stats()["turns_failed"] == 1


async def test_turn_without_a_session_is_cancelled_with_its_client(serve: Any) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with serve(expert) as doors:
        asked = asyncio.create_task(doors.chat())
        await eventually(lambda: expert.running == 1)
        assert doors.mind.stats()["sessions"] == 0
        asked.cancel()
        await doors.quiet()
        assert expert.aborted == 1
        assert doors.state.metrics.stats()["turns_cancelled"] == 1
        assert doors.mind.stats()["turns"]["cancelled"] == 1
        assert doors.mind.stats()["answering"] == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_turn_without_a_session_over_the_time_limit_is_stopped_and_named(
    serve: Any, stream: bool
) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with serve(expert, turn_timeout_s=0.3) as doors:
        body = chat_body("one two", stream=stream)
        async with doors.http.post(doors.url + PATH, json=body) as response:
            text = await response.text()
        status = 200 if stream else 504
        assert (response.status, '"code":"timeout"' in text.replace(" ", "")) == (status, True)
        assert "[DONE]" not in text
        await doors.quiet()
        assert expert.aborted == 1
        assert doors.state.metrics.stats()["turns_failed"] == 1


@pytest.mark.parametrize("user", ["ann", None])
async def test_turn_without_a_session_belongs_to_its_user_or_its_beginning(
    serve: Any, user: str | None
) -> None:
    seen: list[str | None] = []

    def answer(messages: Any) -> str:
        seen.append(affinity_key.get())
        return "ok"

    async with serve(FakeExpert("fake", answer=answer)) as doors:
        for _ in range(2):
            fixed = {"X-Request-Id": "the-same"}
            await doors.ask("POST", PATH, json=chat_body("a", user=user), headers=fixed)
        await doors.ask("POST", PATH, json=chat_body("b", user=user))
        assert None not in seen
        assert len(set(seen)) == (1 if user else 2)
        assert len(set(seen[:2])) == 1


async def test_turn_begins_with_its_first_text_and_not_with_an_empty_chunk(serve: Any) -> None:
    async def chunks() -> Any:
        yield Chunk("", token_ids=(1,))
        yield Chunk("", token_ids=(2,), finish_reason="stop", usage=Usage(3, 2))

    async with (
        serve() as doors,
        AloneTurn(doors.state, "r", "fake", chunks(), None, Report()) as turn,
    ):
        assert "".join([piece.delta async for piece in turn]) == ""
        assert turn.done is not None
        assert turn.done.timings.ttft_ms is None
        assert turn.done.timings.total_ms is not None


async def test_whole_answer_says_what_it_would_have_waited_once_that_is_measured(
    serve: Any,
) -> None:
    async with serve() as doors:
        rates = doors.mind.rates("fake")
        rates.prefill_ms_per_token, rates.decode_ms = 1.0, 7.0
        async with doors.http.post(doors.url + PATH, json=chat_body("one two")) as response:
            usage = (await response.json())["usage"]
            told = float(response.headers["X-LiveMind-TTFT-Without-Ms"])
        assert told == pytest.approx(usage["prompt_tokens"] * 1.0 + rates.decode_ms, abs=0.01)


async def test_answer_that_is_complete_is_not_cut_by_the_time_limit(serve: Any) -> None:
    """Its client reads the last of it only after ``turn_timeout_s``."""
    expert = FakeExpert("fake", answer=lambda messages: "x" * 30_000_000)
    async with serve(expert, turn_timeout_s=0.2, send_timeout_s=30) as doors:
        body = chat_body("go", stream=True)
        async with doors.http.post(doors.url + PATH, json=body) as response:
            response.connection.transport.pause_reading()
            await asyncio.sleep(0.4)
            response.connection.transport.resume_reading()
            text = await response.text()
        assert text.endswith("data: [DONE]\n\n")
        assert '"error"' not in text
        await doors.quiet()
        assert doors.state.metrics.stats()["turns_completed"] == 1


async def test_turn_whose_server_tells_the_usage_last_has_it(serve: Any) -> None:
    async def chunks() -> Any:
        yield Chunk("four")
        yield Chunk("", finish_reason="length")
        yield Chunk("", usage=Usage(3, 1))

    async with (
        serve() as doors,
        AloneTurn(doors.state, "r", "fake", chunks(), None, Report()) as turn,
    ):
        assert "".join([piece.delta async for piece in turn]) == "four"
        assert turn.done is not None
        assert (turn.done.finish_reason, turn.done.usage) == ("length", Usage(3, 1))
        assert turn.done.status == "completed"
