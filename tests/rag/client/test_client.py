"""The bridge's client: passages in time or a named reason, never an exception."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web

from livemind.rag.base import RetrievalResult
from livemind.rag.bridge.retrieve import NO_TIME_TO_READ
from livemind.rag.client.client import BridgeClient
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.encoder.worker import EmbedWorker
from livemind.rag.wire import RetrieveRequest

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Scripted:
    """A server on a loopback port that answers as told and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: Answer = self.found
        self.arrived = asyncio.Event()
        self.gone = asyncio.Event()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        self.arrived.set()
        try:
            return await self.answer(request)
        except asyncio.CancelledError:
            self.gone.set()
            raise

    async def found(self, _: web.Request) -> web.Response:
        result = {"id": "p", "source": "s", "text": "t", "score": 0.5, "rank": 1}
        return web.json_response(
            {"revision": self.asked[-1]["revision"], "index_version": "1", "results": [result]}
        )

    async def hang(self, _: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def overloaded(self, _: web.Request) -> web.Response:
        body = {"revision": self.asked[-1]["revision"], "index_version": "1", "results": []}
        return web.json_response({**body, "degraded": [NO_TIME_TO_READ]})


@asynccontextmanager
async def serving() -> AsyncIterator[Scripted]:
    scripted = Scripted()
    app = web.Application()
    app.router.add_post("/v1/retrieve", scripted.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield scripted
    await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with serving() as scripted:
        yield scripted


@pytest.fixture
async def second() -> AsyncIterator[Scripted]:
    async with serving() as scripted:
        yield scripted


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def client(server: Scripted, clock: Clock) -> AsyncIterator[BridgeClient]:
    async with BridgeClient(server.url, failures=2, cool_down_s=5.0, clock=clock) as client:
        yield client


async def ask(
    client: BridgeClient,
    query: str = "q",
    *,
    revision: int = 1,
    deadline_ms: float = 10_000.0,
    partial: bool = True,
) -> RetrievalResult:
    return await client.retrieve(
        query, revision=revision, partial=partial, deadline_ms=deadline_ms, session_id="s"
    )


async def test_client_real_bridge_returns_its_passages(bridge_url: str) -> None:
    async with BridgeClient(bridge_url, top_k=2, min_score=-1.0) as client:
        result = await ask(client, "the owner of Osprey", revision=7)
    assert result.revision == 7
    assert result.degraded is None
    assert result.passages[0].text == "Osprey\nThe owner of Osprey is Mara."
    assert result.passages[0].source == "handbook.md"
    assert len(result.passages) == 2
    assert result.ms is not None


async def test_client_real_bridge_superseded_revision_is_degraded(
    bridge_url: str, worker: EmbedWorker, embedder: FakeEmbedder
) -> None:
    async with BridgeClient(bridge_url) as client:
        embedder.gate.clear()
        older = asyncio.ensure_future(ask(client, "the owner", revision=1))
        while not worker.stats().misses:  # noqa: ASYNC110 - nothing to subscribe to
            await asyncio.sleep(0.001)
        newer = asyncio.ensure_future(ask(client, "the owner of Osprey", revision=2))
        assert (await older).degraded == "superseded"
        embedder.gate.set()
        assert (await newer).degraded is None


async def test_client_degraded_answer_keeps_its_reasons(
    server: Scripted, client: BridgeClient
) -> None:
    async def degraded(_: web.Request) -> web.Response:
        body = {"revision": 1, "index_version": "1", "results": [], "degraded": ["a", "b"]}
        return web.json_response(body)

    server.answer = degraded
    assert (await ask(client)).degraded == "a, b"


async def test_client_request_carries_everything_the_bridge_needs(
    server: Scripted, clock: Clock
) -> None:
    async with BridgeClient(server.url, top_k=5, min_score=0.25, clock=clock) as client:
        result = await ask(client, "hello", revision=3, deadline_ms=400.0)
    assert server.asked == [
        {
            "query": "hello",
            "session_id": "s",
            "revision": 3,
            "collection": "default",
            "mode": "hybrid",
            "known": [],
            "top_k": 5,
            "min_score": 0.25,
            "partial": True,
            "deadline_ms": 400.0,
        }
    ]
    assert [(p.id, p.source, p.text, p.score) for p in result.passages] == [("p", "s", "t", 0.5)]


@pytest.mark.parametrize("least", [None, 0.0, 0.4])
async def test_client_threshold_arrives_also_where_it_is_the_encoders_own(
    server: Scripted, least: float | None
) -> None:
    async with BridgeClient(server.url, min_score=least) as client:
        await ask(client, "shipping", revision=1)
    assert RetrieveRequest.model_validate(server.asked[0]).min_score == least


async def test_client_request_carries_the_headers_that_it_is_given(server: Scripted) -> None:
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("traceparent"))
        return await server.found(request)

    server.answer = answer
    carried = iter(["one", "two"])
    async with BridgeClient(server.url, headers=lambda: {"traceparent": next(carried)}) as client:
        for revision in (1, 2):
            await client.retrieve(
                "a", revision=revision, partial=True, deadline_ms=1000, session_id="s"
            )
    assert seen == ["one", "two"]


async def test_client_long_text_is_asked_by_its_end(server: Scripted, client: BridgeClient) -> None:
    await ask(client, "a" * 50_000 + "the end")
    assert len(server.asked[0]["query"]) == 1_000
    assert server.asked[0]["query"].endswith("athe end")


async def test_client_lone_surrogate_is_replaced(server: Scripted, client: BridgeClient) -> None:
    assert (await ask(client, "x\ud800")).degraded is None
    assert server.asked[0]["query"] == "x?"


@pytest.mark.parametrize("query", ["", " \n"])
async def test_client_blank_text_finds_nothing_without_asking(
    server: Scripted, client: BridgeClient, query: str
) -> None:
    result = await ask(client, query)
    assert (result.passages, result.degraded, server.asked) == ((), None, [])


async def test_client_slow_bridge_is_a_timeout_that_closes_the_request(
    server: Scripted, client: BridgeClient
) -> None:
    server.answer = server.hang
    result = await ask(client, deadline_ms=50.0)
    assert (result.passages, result.degraded) == ((), "timeout")
    await asyncio.wait_for(server.gone.wait(), 10)


async def test_client_cancelled_task_closes_the_request(
    server: Scripted, client: BridgeClient
) -> None:
    server.answer = server.hang
    task = asyncio.ensure_future(ask(client))
    await server.arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(server.gone.wait(), 10)


@pytest.mark.parametrize("deadline_ms", [0.0, -5.0])
async def test_client_deadline_already_passed_is_a_timeout(
    client: BridgeClient, deadline_ms: float
) -> None:
    assert (await ask(client, deadline_ms=deadline_ms)).degraded == "timeout"


async def test_client_dead_bridge_is_unreachable(dead_url: str) -> None:
    async with BridgeClient(dead_url) as client:
        assert (await ask(client)).degraded == "unreachable"


@pytest.mark.parametrize("status", [400, 404, 413, 429, 500, 503])
async def test_client_error_status_is_named(
    server: Scripted, client: BridgeClient, status: int
) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"error": {}}, status=status)

    server.answer = refuse
    assert (await ask(client)).degraded == f"error: {status}"


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"revision": 1, "index_version": "1", "results": [{}]}'],
)
async def test_client_malformed_answer_is_an_error(
    server: Scripted, client: BridgeClient, body: bytes
) -> None:
    async def rubbish(_: web.Request) -> web.Response:
        return web.Response(body=body)

    server.answer = rubbish
    assert (await ask(client)).degraded == "error: malformed answer"


async def test_client_answer_of_another_revision_is_an_error(
    server: Scripted, client: BridgeClient
) -> None:
    async def stale(_: web.Request) -> web.Response:
        return web.json_response({"revision": 1, "index_version": "1", "results": []})

    server.answer = stale
    assert (await ask(client, revision=2)).degraded == "error: answer of another revision"


async def test_client_connection_dropped_mid_answer_is_unreachable(
    server: Scripted, client: BridgeClient
) -> None:
    async def drop(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"{")
        assert request.transport is not None
        request.transport.close()
        return response

    server.answer = drop
    assert (await ask(client)).degraded == "unreachable"


async def test_client_repeated_failures_stop_asking_until_the_cool_down_ends(
    server: Scripted, client: BridgeClient, clock: Clock
) -> None:
    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=500)

    server.answer = fail
    degraded = [(await ask(client)).degraded for _ in range(4)]
    assert degraded == ["error: 500", "error: 500", "unreachable", "unreachable"]
    assert len(server.asked) == 2
    server.answer = server.found
    clock.now += 5.0
    assert (await ask(client)).degraded is None
    assert (await ask(client)).degraded is None


@pytest.mark.parametrize("status", [400, 409, 429])
async def test_client_refusals_of_a_living_bridge_keep_the_circuit_closed(
    server: Scripted, client: BridgeClient, status: int
) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=status)

    server.answer = refuse
    for _ in range(4):
        await ask(client)
    assert len(server.asked) == 4


async def test_client_cancelled_try_after_the_cool_down_lets_the_next_one_try(
    server: Scripted, client: BridgeClient, clock: Clock
) -> None:
    server.answer = server.hang
    for _ in range(2):
        await ask(client, deadline_ms=20.0)
    assert (await ask(client)).degraded == "unreachable"
    clock.now += 5.0
    server.arrived.clear()
    task = asyncio.ensure_future(ask(client))
    await server.arrived.wait()
    task.cancel()
    await asyncio.wait([task])
    server.answer = server.found
    assert (await ask(client)).degraded is None


def refusing(status: int) -> Answer:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=status)

    return refuse


@pytest.fixture
async def pair(
    server: Scripted, second: Scripted, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[BridgeClient]:
    """A client of two bridges that asks the second only for a reason other than time."""
    monkeypatch.setattr("livemind.rag.client.memory.FIRST_DELAY_S", 3600.0)
    async with BridgeClient(server.url, second_url=second.url, failures=2, clock=clock) as client:
        yield client


async def test_client_final_query_of_an_overloaded_bridge_is_answered_by_the_second(
    server: Scripted, second: Scripted, pair: BridgeClient
) -> None:
    server.answer = server.overloaded
    result = await ask(pair, partial=False)
    assert (len(result.passages), result.degraded) == (1, None)
    assert len(second.asked) == 1


@pytest.mark.parametrize("status", [404, 429, 500])
async def test_client_final_query_that_the_first_bridge_refuses_is_answered_by_the_second(
    server: Scripted, pair: BridgeClient, status: int
) -> None:
    server.answer = refusing(status)
    assert (await ask(pair, partial=False)).degraded is None


async def test_client_partial_query_of_an_overloaded_bridge_is_not_asked_twice(
    server: Scripted, second: Scripted, pair: BridgeClient
) -> None:
    server.answer = server.overloaded
    assert (await ask(pair)).degraded == NO_TIME_TO_READ
    assert second.asked == []


@pytest.mark.parametrize("status", [429, 500])
async def test_client_overloaded_bridge_beside_a_failing_one_is_what_is_told(
    server: Scripted, second: Scripted, pair: BridgeClient, status: int
) -> None:
    server.answer, second.answer = server.overloaded, refusing(status)
    assert (await ask(pair, partial=False)).degraded == NO_TIME_TO_READ


async def test_client_overloaded_bridge_does_not_teach_how_long_answers_take(
    server: Scripted, pair: BridgeClient
) -> None:
    server.answer = server.overloaded
    for _ in range(20):
        await ask(pair)
    assert pair._hedge.seconds == 3600.0


async def test_client_first_bridge_that_fails_is_left_alone_though_the_second_answers(
    server: Scripted, second: Scripted, pair: BridgeClient
) -> None:
    server.answer = refusing(500)
    for _ in range(3):
        assert (await ask(pair, partial=False)).degraded is None
    assert len(server.asked) == 2


async def test_client_overloaded_bridge_neither_opens_nor_closes_the_circuit(
    server: Scripted, client: BridgeClient
) -> None:
    for answer in (refusing(500), server.overloaded, server.overloaded, refusing(500)):
        server.answer = answer
        await ask(client)
    assert (await ask(client)).degraded == "unreachable"


async def test_client_refused_connection_is_tried_again_within_the_deadline(
    server: Scripted, client: BridgeClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bridge that ``serve`` has just started may not listen yet."""
    original, failures = client._http.post, 2

    async def flaky(*args: Any, **kwargs: Any) -> httpx.Response:
        nonlocal failures
        if failures:
            failures -= 1
            clock.now += 0.1
            raise httpx.ConnectError("refused")
        return await original(*args, **kwargs)

    monkeypatch.setattr(client._http, "post", flaky)
    assert (await ask(client, deadline_ms=1_000.0)).degraded is None
    assert failures == 0
    assert server.asked[0]["deadline_ms"] == pytest.approx(800.0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"base_url": "127.0.0.1:8001"},
        {"base_url": "ftp://host"},
        {"base_url": "http://host", "top_k": 0},
        {"base_url": "http://host", "top_k": 51},
        {"base_url": "http://host", "min_score": 2.0},
    ],
    ids=str,
)
def test_client_bad_setting_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"http://|top_k|min_score"):
        BridgeClient(**arguments)
