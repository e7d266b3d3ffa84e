"""The server ends: answers in progress get time, then one clear error; nothing is left."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from livemind.backends.fake import FakeExpert
from livemind.orchestrator.server import app as app_module
from livemind.orchestrator.server.live import connection

pytestmark = pytest.mark.usefixtures("both_ways")


@asynccontextmanager
async def second_server(doors: Any) -> AsyncIterator[tuple[str, asyncio.Event, asyncio.Task[None]]]:
    """Serve the same engine once more, until the event is set."""
    stop, ready = asyncio.Event(), asyncio.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def run() -> None:
        async with app_module.run_server(app_module.create_app(doors.mind), listener):
            ready.set()
            await stop.wait()

    task = asyncio.create_task(run())
    await ready.wait()
    try:
        yield url, stop, task
    finally:
        stop.set()
        await task


async def test_shutdown_ends_a_stream_with_one_error_event(serve: Any, body: Any) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with (
        serve(expert, drain_timeout_s=0.3) as doors,
        second_server(doors) as (url, stop, task),
    ):
        request = body("one two", stream=True)
        async with doors.http.post(url + "/v1/chat/completions", json=request) as response:
            await response.content.readany()
            stop.set()
            rest = (await response.read()).decode()
        events = [json.loads(line[6:]) for line in rest.split("\n\n") if line]
        assert len(events) == 1
        assert events[0]["error"]["code"] == "unavailable"
        await task
        assert expert.running == 0


async def test_shutdown_answers_a_waiting_request_with_503(
    serve: Any, body: Any, eventually: Any
) -> None:
    expert = FakeExpert("fake", ttft_s=3600)
    async with (
        serve(expert, drain_timeout_s=0.3) as doors,
        second_server(doors) as (url, stop, task),
    ):
        asking = asyncio.create_task(doors.http.post(url + "/v1/chat/completions", json=body()))
        await eventually(lambda: expert.running)
        stop.set()
        async with await asking as response:
            assert response.status == 503
            assert (await response.json())["error"]["code"] == "unavailable"
        await task
        assert expert.running == 0


async def test_shutdown_lets_a_short_answer_finish(serve: Any, body: Any) -> None:
    expert = FakeExpert("fake", token_s=0.05)
    async with (
        serve(expert, drain_timeout_s=30) as doors,
        second_server(doors) as (url, stop, _),
    ):
        request = body("one two", stream=True)
        async with doors.http.post(url + "/v1/chat/completions", json=request) as response:
            await response.content.readany()
            stop.set()
            assert (await response.read()).endswith(b"data: [DONE]\n\n")


async def test_shutdown_closes_idle_sockets_at_once_with_the_reason(serve: Any) -> None:
    async with (
        serve() as doors,
        second_server(doors) as (url, stop, task),
        doors.http.ws_connect(url + "/v1/live") as ws,
    ):
        await ws.receive_json()
        stop.set()
        error = await ws.receive_json()
        assert error["error"]["code"] == "unavailable"
        await ws.receive()
        assert ws.close_code == 1001
        await task


async def test_shutdown_lets_a_short_live_turn_finish(serve: Any) -> None:
    expert = FakeExpert("fake", token_s=0.05)
    async with (
        serve(expert, drain_timeout_s=30) as doors,
        second_server(doors) as (url, stop, _),
        doors.http.ws_connect(url + "/v1/live") as ws,
    ):
        await ws.send_json({"type": "session.update", "speculation": "off"})
        await ws.send_json({"type": "input_text.commit", "text": "one two"})
        while (await ws.receive_json())["type"] != "response.output_text.delta":
            pass
        stop.set()
        while (event := await ws.receive_json())["type"] != "response.done":
            pass
        assert event["status"] == "completed"


async def test_shutdown_ends_a_live_turn_with_its_done_event(serve: Any) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with (
        serve(expert, drain_timeout_s=1) as doors,
        second_server(doors) as (url, stop, task),
        doors.http.ws_connect(url + "/v1/live") as ws,
    ):
        await ws.send_json({"type": "session.update", "speculation": "off"})
        await ws.send_json({"type": "input_text.commit", "text": "one two"})
        while (await ws.receive_json())["type"] != "response.output_text.delta":
            pass
        stop.set()
        assert (item := await ws.receive_json())["type"] == "conversation.item.done"
        assert item["item"]["status"] == "incomplete"
        assert (done := await ws.receive_json())["type"] == "response.done"
        assert done["status"] == "cancelled"
        assert (await ws.receive_json())["type"] == "error"
        await ws.receive()
        await task
        assert expert.running == 0


async def test_shutdown_cuts_a_socket_that_is_still_busy_without_breaking_the_protocol(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "DRAIN_SHARE", 600)
    expert = FakeExpert("fake", token_s=3600)
    async with (
        serve(expert, drain_timeout_s=0.1) as doors,
        second_server(doors) as (url, stop, task),
        doors.http.ws_connect(url + "/v1/live") as ws,
    ):
        await ws.send_json({"type": "session.update", "speculation": "off"})
        await ws.send_json({"type": "input_text.commit", "text": "one two"})
        while (await ws.receive_json())["type"] != "response.output_text.delta":
            pass
        stop.set()
        await ws.receive()
        assert ws.close_code == 1001
        await task
        assert expert.running == 0
