"""A client of the HTTP door that stops reading: its connection is dropped, its slot is free."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from yarl import URL

from livemind.backends.fake import FakeExpert

from .conftest import eventually

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.mark.parametrize(
    ("piece_chars", "pieces", "token_s"),
    [(400_000, 100, 0.01), (15_000, 1500, 0.001)],
    ids=["large pieces", "pieces that each fit the buffer"],
)
async def test_stream_to_a_client_that_stops_reading_is_dropped(
    serve: Any, body: Any, piece_chars: int, pieces: int, token_s: float
) -> None:
    words = " ".join(["x" * piece_chars] * pieces)
    expert = FakeExpert("fake", answer=lambda messages: words, token_s=token_s)
    async with serve(expert, send_timeout_s=0.3, max_queued_bytes=1 << 30) as doors:
        request = body("go", stream=True)
        async with doors.http.post(doors.url + "/v1/chat/completions", json=request) as response:
            async with asyncio.timeout(10):
                await response.content.readany()
            response.connection.transport.pause_reading()
            await doors.quiet()
            response.connection.transport.abort()
        assert expert.aborted == 1
        assert doors.state.metrics.stats()["turns_cancelled"] == 1


async def test_whole_answer_to_a_client_that_does_not_read_frees_its_expert(
    serve: Any, body: Any
) -> None:
    expert = FakeExpert("fake", answer=lambda messages: "x" * 30_000_000)
    async with serve(expert, send_timeout_s=0.3) as doors:
        payload = json.dumps(body("go")).encode()
        asked = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost"
        head = f"{asked}\r\nContent-Length: {len(payload)}"
        host, port = URL(doors.url).host, URL(doors.url).port
        _, writer = await asyncio.open_connection(host, port, limit=1024)
        writer.write(f"{head}\r\n\r\n".encode() + payload)
        await eventually(lambda: expert.started == 1 and not doors.mind.stats()["answering"])
        assert len(doors.state.in_flight) == 1, "the answer waits for its client"
        await eventually(lambda: len(doors.state.in_flight) == 0)
        writer.transport.abort()


async def test_stream_faster_than_its_client_reads_ends_with_what_may_wait(
    serve: Any, body: Any
) -> None:
    words = " ".join(["x" * 400_000] * 1000)
    expert = FakeExpert("fake", answer=lambda messages: words, token_s=0.001)
    async with serve(expert, send_timeout_s=60, max_queued_bytes=2_000_000) as doors:
        request = body("go", stream=True, livemind=True)
        async with doors.http.post(doors.url + "/v1/chat/completions", json=request) as response:
            async with asyncio.timeout(10):
                await response.content.readany()
            response.connection.transport.pause_reading()
            await eventually(lambda: expert.aborted == 1)
            response.connection.transport.abort()
        await doors.quiet()
        assert doors.state.metrics.stats()["turns_failed"] == 1
