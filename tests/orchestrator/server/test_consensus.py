"""Consensus at the doors: what is chosen, what is told, and that nothing unsettled leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from livemind.backends.base import Message
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.consensus.options import Consensus
from livemind.orchestrator.server.consensus_schema import ConsensusRequest, in_force

POLICIES = ("first", "draft", "verify", "vote")
QUESTION = "what is it?"


def expert(name: str, **given: Any) -> FakeExpert:
    """Answer with words that stand nowhere else; asked to judge, say yes."""

    def answer(messages: Sequence[Message]) -> str:
        return "A" if "«" in messages[-1].content else f"zebra {name} says 42"

    return FakeExpert(name, answer=answer, drafts=True, **given)


@dataclass
class Tap:
    """A proxy that keeps every byte that the server sends."""

    url: str = ""
    sent: bytearray = field(default_factory=bytearray)

    async def pass_on(self, reader: Any, writer: Any, *, keep: bool) -> None:
        try:
            while data := await reader.read(65536):
                if keep:
                    self.sent += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def tapped(url: str) -> AsyncIterator[Tap]:
    tap, target = Tap(), urlsplit(url)
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: Any, writer: Any) -> None:
        upstream = await asyncio.open_connection(target.hostname, target.port)
        for source, sink, keep in ((reader, upstream[1], False), (upstream[0], writer, True)):
            tasks.add(asyncio.create_task(tap.pass_on(source, sink, keep=keep)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    tap.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield tap
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("policy", POLICIES)
async def test_wire_before_the_commit_carries_no_byte_of_any_hidden_answer(
    serve: Any, eventually: Any, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    both = expert("fast"), expert("strong")
    async with (
        serve(*both, fast="fast") as doors,
        tapped(doors.url) as tap,
        doors.http.ws_connect(tap.url.replace("http", "ws") + "/v1/live") as socket,
    ):
        chosen = {"model": "strong", "consensus": policy}
        await socket.send_json({"type": "session.update", **chosen})
        async with doors.http.post(f"{tap.url}/v1/live/sessions", json=chosen) as response:
            session = (await response.json())["id"]
        place = f"{tap.url}/v1/live/sessions/{session}"
        await socket.send_json({"type": "input_text.append", "text": QUESTION})
        await doors.http.put(f"{place}/input", json={"text": QUESTION})
        await eventually(lambda: sum(e.generated_tokens for e in both) >= 8)
        await eventually(lambda: not any(e.running for e in both))
        for path in (place, f"{tap.url}/stats", f"{tap.url}/metrics"):
            async with doors.http.get(path) as response:
                assert response.status == 200
                await response.read()
        before = bytes(tap.sent)
        assert b"draft.created" in before
        assert b"zebra" not in before
        assert b"says" not in before
        assert "zebra" not in caplog.text
        await socket.send_json({"type": "input_text.commit"})
        while (event := await socket.receive_json(timeout=10))["type"] != "response.done":
            pass
        assert event["consensus"]["policy"] == policy
        assert event["consensus"]["spans"][0]["before_commit"]
        body = {"messages": [{"role": "user", "content": QUESTION}]}
        headers = {"X-LiveMind-Session": session}
        url = f"{tap.url}/v1/chat/completions"
        async with doors.http.post(url, json=body, headers=headers) as response:
            assert "zebra" in (await response.json())["choices"][0]["message"]["content"]
        assert tap.sent[len(before) :].count(b"zebra") >= 2


async def test_chat_that_asks_gets_the_record_of_its_answer(serve: Any, body: Any) -> None:
    vote = {"policy": "vote", "answer": "number", "deadline_ms": 500}
    fields = {"model": "strong", "consensus": vote, "livemind": True}
    async with serve(expert("fast"), expert("strong"), fast="fast") as doors:
        _, whole = await doors.chat(QUESTION, **fields)
        url = doors.url + "/v1/chat/completions"
        streaming = body(QUESTION, stream=True, **fields)
        async with doors.http.post(url, json=streaming) as response:
            lines = (await response.text()).split("\n\n")
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines if "{" in line]
        _, plain = await doors.chat(QUESTION, model="strong", consensus=vote)
        sample = doors.state.metrics.registry.get_sample_value
        labels = {"policy": "vote", "author": "strong", "settled_by": "quorum"}
        spans = sample("livemind_consensus_spans_total", {**labels, "before_commit": "no"})
        generated = {"policy": "vote", "kind": "generated"}
        assert (spans, sample("livemind_consensus_tokens_total", generated)) == (3, 24)
    assert [("livemind" in chunk) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    for told in (whole["livemind"], chunks[-1]["livemind"]):
        (span,) = told["consensus"]["spans"]
        assert {vote["choice"] for vote in span["votes"]} == {"42"}
        assert (span["author"], span["agreement"], told["expert"]) == ("strong", 1.0, "strong")
        assert told["consensus"]["generated_tokens"] == 8
        assert {"timings", "ledger"} <= set(told)
    assert "livemind" not in plain


@pytest.mark.parametrize(
    ("consensus", "param"),
    [
        ("loudest", "consensus.policy"),
        ({"policy": "vote", "experts": ["nobody"]}, "consensus.experts"),
        ({"policy": "vote", "experts": ["fast", "fast"]}, "consensus.experts"),
        ({"deadline_ms": 0}, "consensus.deadline_ms"),
        ({"policy": "verify", "quorum": 9}, "consensus.quorum"),
        ({"policy": "vote", "answer": "label"}, "consensus.labels"),
        ({"patience": 1}, "consensus.patience"),
        (7, "consensus"),
    ],
    ids=str,
)
async def test_chat_consensus_that_is_impossible_is_refused_by_name(
    serve: Any, consensus: Any, param: str
) -> None:
    async with serve(expert("fast"), expert("strong"), fast="fast") as doors:
        status, answer = await doors.chat(QUESTION, consensus=consensus)
        assert (status, answer["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "consensus",
    [Consensus(), Consensus("vote", ("a",), 1.5, "label", ("x",), 2, "every", "continue")],
    ids=["default", "other"],
)
def test_consensus_that_is_told_can_be_sent_back(consensus: Consensus) -> None:
    told = msgspec.json.encode(in_force(consensus))
    assert ConsensusRequest.model_validate_json(told).onto(Consensus()) == consensus


async def test_chat_verify_without_a_fast_expert_is_refused_by_name(serve: Any) -> None:
    async with serve(expert("one"), expert("two")) as doors:
        status, answer = await doors.chat(QUESTION, consensus="verify")
        assert status == 400
        assert "router.fast_expert" in answer["error"]["message"]
