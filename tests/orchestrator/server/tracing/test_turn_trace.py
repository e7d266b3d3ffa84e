"""Spans of turns at every door, of a real server, as the SDK's in-memory exporter gets them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from livemind.backends.errors import ExpertError
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.config.telemetry import TelemetryConfig
from livemind.orchestrator.live_mind import LiveMind
from livemind.orchestrator.server.app import create_app, run_server
from livemind.orchestrator.server.tracing import traces as traces_module
from livemind.orchestrator.server.tracing.otlp import otlp_spans
from livemind.rag.base import Passage, RetrievalResult

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ABOVE = "00f067aa0ba902b7"
OTHER = "0af7651916cd43dd8448eb211c80319c"
HEADERS = {"traceparent": f"00-{TRACE}-{ABOVE}-01", "tracestate": "vendor=1"}
SECRET = "sesame"


class Found:
    """The spans that were written so far."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self.exporter = exporter

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return format_trace_id(span.context.trace_id)


def parent_of(span: ReadableSpan) -> str | None:
    return None if span.parent is None else format_span_id(span.parent.span_id)


def id_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return format_span_id(span.context.span_id)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Found:
    exporter = InMemorySpanExporter()
    told = TelemetryConfig(otlp_endpoint="http://127.0.0.1:9", service_name="tested")
    spans = otlp_spans(told, SimpleSpanProcessor(exporter))
    monkeypatch.setattr(traces_module, "otlp_spans", lambda telemetry: spans)
    return Found(exporter)


ON = {"otlp_endpoint": "http://127.0.0.1:9"}


class Passages:
    """Finds one passage at once."""

    async def retrieve(
        self, query: str, *, revision: int, partial: bool, deadline_ms: float, session_id: str
    ) -> RetrievalResult:
        return RetrievalResult(revision, (Passage("p1", "town.md", "The pool.", 0.9),), ms=2.0)

    async def aclose(self) -> None: ...


async def typed(connection: Any, text: str) -> dict[str, Any]:
    for end in range(8, len(text) + 1, 8):
        await connection.send(type="input_text.replace", text=text[:end])
        await asyncio.sleep(0.03)
    await connection.send(type="input_text.commit", text=text)
    done: dict[str, Any] = await connection.until("response.done")
    return done


async def test_typed_turn_has_spans_for_all_that_it_did(serve: Any, found: Found) -> None:
    experts = [FakeExpert(name, ttft_s=0.02, prefill_token_s=0.001) for name in ("fake", "two")]
    text = f"when does the pool of the town open on a long weekend {SECRET}"
    async with serve(*experts, fast="two", retriever=Passages(), telemetry=ON) as server:
        async with server.live(configure=False, headers=HEADERS) as connection:
            await connection.send(type="session.update", speculation="draft", retrieval=True)
            done = await typed(connection, text)
        await server.quiet()
    assert done["status"] == "completed"
    turn, commit = found.one("turn"), found.one("commit")
    answer = found.one(f"chat {done['expert']}")
    assert turn.kind is SpanKind.SERVER
    assert (trace_of(turn), parent_of(turn)) == (TRACE, ABOVE)
    assert found.named("prefill")
    assert found.named("route")
    retrievals = found.named("retrieval")
    assert {span.attributes["gen_ai.operation.name"] for span in retrievals if span.attributes} == {
        "retrieval"
    }
    for span in found.spans:
        if span is not turn and span.name != "first_token":
            assert (span.name, parent_of(span)) == (span.name, id_of(turn))
        assert trace_of(span) == TRACE
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time
    assert parent_of(found.one("first_token")) == id_of(answer)
    moments = (turn.start_time, commit.start_time, commit.end_time, answer.end_time)
    assert list(moments) == sorted(moment or 0 for moment in moments)
    attributes = dict(answer.attributes or {})
    usage = done["usage"]
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.request.model"] == done["expert"]
    assert attributes["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == usage["cached_tokens"]
    assert attributes["gen_ai.response.id"] == done["response_id"]
    first_s = attributes["gen_ai.response.time_to_first_chunk"]
    assert first_s == done["timings"]["ttft_ms"] / 1000
    assert turn.attributes is not None
    assert turn.attributes["livemind.prefill_adopted"] == done["ledger"]["prefill_adopted"]


async def test_spans_hold_no_text_key_or_session_id(serve: Any, found: Found) -> None:
    key = f"key-{SECRET}"
    headers = {"Authorization": f"Bearer {key}", **HEADERS}
    expert = FakeExpert("fake", answer=lambda messages: f"the answer is {SECRET}")
    async with serve(expert, telemetry=ON, api_keys=[key]) as server:
        async with server.live(configure=False, headers=headers) as connection:
            created = connection.seen[0]
            await connection.send(type="session.update", speculation="draft")
            await typed(connection, f"what is {SECRET}, when you ask in earnest")
        await server.quiet()
    shown = "".join(span.to_json() for span in found.spans)
    assert found.named("turn")
    assert SECRET not in shown
    assert created["session"]["id"] not in shown


async def test_draft_that_was_adopted_is_a_span(serve: Any, found: Found) -> None:
    async with serve(FakeExpert("fake", token_s=0.001), telemetry=ON) as server:
        async with server.live(configure=False) as connection:
            await connection.send(type="session.update", speculation="draft")
            text = "what is the capital of France?"
            await connection.send(type="input_text.replace", text=text)
            await connection.until("draft.created")
            await asyncio.sleep(0.1)
            await connection.send(type="input_text.commit", text=text)
            done = await connection.until("response.done")
        await server.quiet()
    assert done["ledger"]["draft_adopted"] > 0
    draft = found.one("draft")
    assert draft.attributes is not None
    assert draft.attributes["livemind.outcome"] == "adopted"


async def test_turns_without_a_trace_have_one_each(serve: Any, found: Found) -> None:
    async with serve(telemetry=ON) as server, server.live() as connection:
        for text in ("one", "two"):
            await connection.send(type="input_text.commit", text=text)
            await connection.until("response.done")
    first, second = found.named("turn")
    assert (parent_of(first), parent_of(second)) == (None, None)
    assert trace_of(first) != trace_of(second)


@pytest.mark.usefixtures("both_ways")
async def test_chat_request_goes_on_with_its_trace(serve: Any, body: Any, found: Found) -> None:
    async with serve(telemetry=ON) as server:
        for headers in ({}, HEADERS):
            status, _ = await server.post("/v1/chat/completions", body("hi"), headers=headers)
            assert status == 200
    turns = found.named("turn")
    assert [trace_of(turn) == TRACE for turn in turns] == [False, True]
    assert len(found.named("chat fake")) == 2


async def test_completion_is_named_as_such(serve: Any, found: Found) -> None:
    async with serve(telemetry=ON) as server:
        await server.post("/v1/completions", {"prompt": "a b c", "model": "fake"})
    assert found.one("text_completion fake").attributes is not None


async def test_commit_of_another_trace_has_the_answer_there(
    serve: Any, body: Any, found: Found
) -> None:
    async with serve(telemetry=ON) as server:
        _, made = await server.post("/v1/live/sessions", {}, headers=HEADERS)
        other = {"traceparent": f"00-{OTHER}-{ABOVE}-01", "X-LiveMind-Session": made["id"]}
        status, _ = await server.post("/v1/chat/completions", body("hi"), headers=other)
        assert status == 200
    turn, answer = found.one("turn"), found.one("chat fake")
    assert (trace_of(turn), trace_of(answer), parent_of(answer)) == (TRACE, OTHER, ABOVE)
    (link,) = answer.links
    assert format_trace_id(link.context.trace_id) == TRACE


async def test_failed_turn_is_an_error_with_its_code(serve: Any, found: Found) -> None:
    expert = FakeExpert("fake")
    expert.refuse = ExpertError("fake", f"broke at {SECRET}", shown="broke")
    async with serve(expert, telemetry=ON) as server, server.live() as connection:
        await connection.send(type="input_text.commit", text="one")
        done = await connection.until("response.done")
    turn, answer = found.one("turn"), found.one("chat fake")
    for span in (turn, answer):
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes is not None
        assert span.attributes["error.type"] == done["error"]["code"]
    assert SECRET not in "".join(span.to_json() for span in found.spans)


async def test_typed_and_never_committed_is_told_as_abandoned(serve: Any, found: Found) -> None:
    expert = FakeExpert("fake", prefill_token_s=0.0001)
    async with serve(expert, telemetry=ON) as server:
        async with server.live(configure=False) as connection:
            await connection.send(type="session.update", speculation="prefill")
            text = "when does the pool of the town open on a long weekend"
            await connection.send(type="input_text.replace", text=text)
            await connection.until("prefill.updated")
        await server.quiet()
    turn = found.one("turn")
    assert turn.attributes is not None
    assert turn.attributes["livemind.status"] == "abandoned"
    assert not found.named("chat fake")


async def test_trace_that_is_not_sampled_writes_nothing(serve: Any, found: Found) -> None:
    headers = {"traceparent": f"00-{TRACE}-{ABOVE}-00"}
    async with serve(telemetry=ON) as server, server.live(headers=headers) as connection:
        await connection.send(type="input_text.commit", text="one")
        await connection.until("response.done")
    assert not found.spans


@pytest.mark.parametrize("given", ["", "00-0-0-01", "ff-" + TRACE, "x" * 5000])
async def test_broken_context_is_passed_over(serve: Any, found: Found, given: str) -> None:
    async with (
        serve(telemetry=ON) as server,
        server.live(headers={"traceparent": given}) as connection,
    ):
        await connection.send(type="input_text.commit", text="one")
        done = await connection.until("response.done")
    assert done["status"] == "completed"
    assert parent_of(found.one("turn")) is None


@asynccontextmanager
async def remote_expert() -> AsyncIterator[tuple[str, list[str | None]]]:
    """Yield the address of a server that answers "fine", and the trace contexts that it gets."""
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("traceparent"))
        choice = {"index": 0, "message": {"role": "assistant", "content": "fine"}}
        lines = (
            'data: {"choices": [{"index": 0, "delta": {"content": "fine"}}]}',
            'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}',
            "data: [DONE]",
        )
        if (await request.json()).get("stream"):
            text = "".join(f"{line}\n\n" for line in lines)
            return web.Response(text=text, content_type="text/event-stream")
        return web.json_response({"choices": [{**choice, "finish_reason": "stop"}]})

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m", "max_model_len": 4096}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    app.router.add_post("/v1/completions", answer)
    app.router.add_get("/v1/models", models)
    async with TestServer(app) as server:
        yield str(server.make_url("")), seen


@asynccontextmanager
async def gateway(url: str, **sections: Any) -> AsyncIterator[str]:
    """Serve a remote expert; yield the address."""
    expert = {"expert_id": "far", "kind": "remote", "base_urls": [url], "model": "m"}
    settings = Settings.model_validate({"experts": [expert], **sections})
    listener = socket.create_server(("127.0.0.1", 0))
    async with LiveMind(settings) as mind, run_server(create_app(mind), listener):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def ask(url: str) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "livemind": True}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/v1/chat/completions", json=body, headers=HEADERS) as response,
    ):
        assert response.status == 200


async def test_remote_expert_gets_the_context_of_the_turn(found: Found) -> None:
    async with remote_expert() as (url, seen), gateway(url, telemetry=ON) as server:
        await ask(server)
    assert seen[-1] == f"00-{TRACE}-{id_of(found.one('turn'))}-01"


async def test_remote_expert_gets_no_context_without_traces() -> None:
    async with remote_expert() as (url, seen), gateway(url) as server:
        await ask(server)
    assert seen
    assert set(seen) == {None}
