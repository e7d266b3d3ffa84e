"""The gateway benchmark's generator against its fake backend, and its figures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from livemind.benchmarks.gateway import bare, summary as gateway_summary
from livemind.benchmarks.gateway.load import (
    NOT_SENT,
    UNFINISHED,
    LoadResult,
    LoadSpec,
    fault_of,
    generate,
)
from livemind.benchmarks.gateway.run import WAYS, Aim, Measurement, Way
from livemind.benchmarks.harness.fake_server import FakeServer
from livemind.benchmarks.harness.server_process import free_port

LATENCY_S = 0.05
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def fake(latency_s: float = LATENCY_S, *, itl_s: float = 0.0) -> AsyncGenerator[str, None]:
    async with FakeServer(latency_s, 4, itl_s).serving() as url:
        yield url


def answer(**asked: object) -> bytes:
    return b"".join(part for _, parts in FakeServer(0.0, 4).chat(asked) for part in parts)


def spec(url: str, *, stream: bool = False, rate_per_s: float = 0.0) -> LoadSpec:
    return LoadSpec(
        url=url,
        model="fake",
        users=4,
        rate_per_s=rate_per_s,
        seconds=0.3,
        warm_up_s=0.1,
        stream=stream,
        seed=1,
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("rate_per_s", [0.0, 60.0], ids=["closed", "open"])
async def test_generator_every_answer_takes_at_least_the_known_latency(
    stream: bool, rate_per_s: float
) -> None:
    async with fake() as url:
        found = await generate(spec(url, stream=stream, rate_per_s=rate_per_s))
    assert found.errors == {}
    assert found.ended > 0
    assert len(found.total_ms) > 0
    # timers may be early by the loop's clock resolution
    assert min(found.ttft_ms) >= LATENCY_S * 1000.0 - 2.0
    assert all(first <= total for first, total in zip(found.ttft_ms, found.total_ms, strict=True))


async def test_fake_stream_spreads_its_tokens_up_to_the_known_latency() -> None:
    async with fake(itl_s=0.01) as url:
        streamed = await generate(spec(url, stream=True))
        whole = await generate(spec(url))
    assert streamed.errors == whole.errors == {}
    assert min(streamed.total_ms) >= LATENCY_S * 1000.0 - 2.0
    assert min(whole.total_ms) >= LATENCY_S * 1000.0 - 2.0
    pairs = zip(streamed.ttft_ms, streamed.total_ms, strict=True)
    assert max(total - first for first, total in pairs) >= 3 * 10.0 - 2.0


@pytest.mark.parametrize("stream", [False, True])
async def test_bare_proxy_passes_every_answer_on(stream: bool) -> None:
    port = free_port()
    async with fake() as upstream:
        proxy = asyncio.create_task(bare.serve(port, upstream))
        try:
            await listening(port)
            found = await generate(spec(f"http://127.0.0.1:{port}", stream=stream))
        finally:
            proxy.cancel()
            await asyncio.wait([proxy])
    assert found.errors == {}
    assert found.ended > 0


async def listening(port: int) -> None:
    async with asyncio.timeout(5.0):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return


async def test_generator_closed_loop_never_has_more_requests_than_users() -> None:
    async with fake() as url:
        found = await generate(spec(url))
    assert 1 <= found.ended <= 4 * (0.3 + 0.1) / LATENCY_S


async def test_generator_answers_after_the_counted_time_have_their_latency_and_no_rate() -> None:
    async with fake(0.5) as url:
        found = await generate(spec(url, rate_per_s=30.0))
    assert (found.errors, found.ended) == ({}, 0)
    assert found.total_ms
    assert min(found.total_ms) >= 500.0 - 2.0


async def test_generator_answers_that_never_end_are_unfinished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("livemind.benchmarks.gateway.load.FINISH_S", 0.05)
    async with fake(60.0) as url:
        found = await generate(replace(spec(url, rate_per_s=100.0), warm_up_s=0.2, seconds=0.1))
    assert found.errors.keys() == {UNFINISHED, NOT_SENT}
    assert 0 < found.missing < sum(found.errors.values())  # the warm-up's are errors alone
    assert found.total_ms == []


async def test_generator_refusals_and_broken_connections_are_errors_not_answers() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 Too Many\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async with raw(refuse) as url:
        found = await generate(spec(url))
    assert found.ended == 0
    assert found.total_ms == []
    assert found.errors["HTTP 429"] > 0


@asynccontextmanager
async def raw(handler: Handler) -> AsyncGenerator[str, None]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "stream", "fault"),
    [
        (answer(), False, None),
        (answer(stream=True, stream_options={"include_usage": True}), True, None),
        (answer(stream=True).partition(b"[DONE]")[0], True, "no [DONE]"),
        (b'HTTP/1.1 200 OK\r\n\r\ndata: {"error": {}}', True, "an error event"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"choices": []}', False, "no finish_reason"),
        (b"HTTP/1.1 503 Busy\r\n\r\n{}", False, "HTTP 503"),
    ],
)
def test_fault_of_tells_whole_answers_from_others(
    answer: bytes, stream: bool, fault: str | None
) -> None:
    assert fault_of(answer, stream=stream) == fault


def one(number: int, arm: str, way: Way, aim: Aim, ms: float, ended: int) -> Measurement:
    result = LoadResult(1.0, ended, [ms] * 3, [ms + 1.0] * 3)
    return Measurement(number, arm, way, aim, result, 1.0, 0.5)


def test_summary_headline_is_the_worse_way_paired_within_rounds() -> None:
    found = []
    for number, drift in enumerate((0.0, 50.0, 7.0)):
        for way in WAYS:
            added = {"whole": 0.5, "stream": 2.0}[way]
            found.append(one(number, "direct", way, "latency", 100.0 + drift, 10))
            found.append(one(number, "livemind", way, "latency", 100.0 + drift + added, 10))
            rate = 600 if way == "whole" else 900
            polling = 100.0 + drift + added / 2
            found.append(one(number, "livemind-polling", way, "latency", polling, 10))
            found.append(one(number, "livemind", way, "throughput", 1.0, rate))
            found.append(one(number, "litellm", way, "throughput", 1.0, 100))
            found.append(one(number, "bare", way, "latency", 100.0 + drift + 0.4, 10))
            found.append(one(number, "bare", way, "throughput", 1.0, 1200 + 300 * number))
    summary = gateway_summary.summary(found)
    assert summary["gateway.added_ms.p50"] == pytest.approx(2.0)
    assert summary["gateway.added_ms.p50.whole"] == pytest.approx(0.5)
    assert summary["gateway.polling_added_ms.p50.stream"] == pytest.approx(1.0)
    assert summary["gateway.rps_over_litellm"] == pytest.approx(6.0)
    assert summary["gateway.rps.stream"] == pytest.approx(900.0)
    assert summary["gateway.rps_over_bare.whole"] == pytest.approx(0.4)
    assert summary["gateway.added_over_bare.p50.stream"] == pytest.approx(5.0)


@pytest.mark.parametrize(("aim", "kept"), [("latency", True), ("throughput", False)])
def test_row_keeps_single_times_only_of_latencies(aim: Aim, kept: bool) -> None:
    row = one(0, "livemind", "whole", aim, 110.0, 10).row()
    assert ("total_ms" in row, "ttft_ms" in row, row["ended"]) == (kept, kept, 10)


@pytest.mark.parametrize(("missing", "added"), [(0, 10.0), (2, 10.0), (3, None)])
def test_summary_missing_answers_count_as_slower_than_all(
    missing: int, added: float | None
) -> None:
    """Of three answers that take 110 ms the median is known as long as fewer are missing."""
    found = [one(0, "direct", "whole", "latency", 100.0, 10)]
    slow = one(0, "livemind", "whole", "latency", 110.0, 10)
    slow.result.missing = missing
    summary = gateway_summary.summary([*found, slow])
    assert summary["gateway.added_ms.p50.whole"] == added


def test_summary_without_the_peer_is_unknown_not_zero() -> None:
    found = [one(0, "livemind", way, "throughput", 1.0, 10) for way in WAYS]
    summary = gateway_summary.summary(found)
    assert summary["gateway.rps_over_litellm"] is None
    assert summary["gateway.litellm_rps.whole"] is None
