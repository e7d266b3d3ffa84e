"""How a stream of events leaves the server."""

from __future__ import annotations

import asyncio

from aiohttp import web

from livemind.orchestrator.server.sse import DONE, EventStream, encode
from livemind.orchestrator.server.state import REQUEST_ID


def test_encode_writes_one_event_a_payload() -> None:
    assert encode({"a": "é"}) == 'data: {"a":"é"}\n\n'.encode()
    assert encode(DONE) == b"data: [DONE]\n\n"


async def test_stream_headers_wait_for_the_first_event() -> None:
    opened, go = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        request[REQUEST_ID] = "r"
        stream = EventStream(request, 5.0)
        await stream.open({})
        opened.set()
        await go.wait()
        await stream.send({"a": 1}, DONE)
        return stream.response

    app = web.Application()
    app.add_routes([web.get("/", handler)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        first = asyncio.create_task(reader.read(1 << 16))
        await opened.wait()
        done, _ = await asyncio.wait({first}, timeout=0.1)
        assert not done, "headers left without an event"
        go.set()
        found = await first
        assert found.startswith(b"HTTP/1.1 200 OK")
        assert b'data: {"a":1}\n\ndata: [DONE]\n\n' in found
        writer.close()
        await writer.wait_closed()
    finally:
        go.set()
        await runner.cleanup()
