"""The least that a proxy of aiohttp can do: where the bar of the gateway benchmark can lie at all.

    python -m livemind.benchmarks.gateway.bare --port 9100 --upstream http://127.0.0.1:9000

Reads a chat request as JSON, asks the upstream to stream it and passes the bytes on, or joins the
text for who wants it whole. No checks, no routing, no limits, no errors: it is no gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import gc

import aiohttp
from aiohttp import web
from msgspec import json

from ...backends.remote.events import chunk_of, event_of
from ...backends.remote.sse import EventReader
from ...orchestrator.cli import event_loop

UPSTREAM = web.AppKey("upstream", str)
CLIENT = web.AppKey("client", aiohttp.ClientSession)


async def chat(request: web.Request) -> web.StreamResponse:
    """Pass one request on and its answer back."""
    body = json.decode(await request.read())
    wanted = body.get("stream", False)
    url = f"{request.app[UPSTREAM]}/v1/chat/completions"
    content = json.encode({**body, "stream": True})
    async with request.app[CLIENT].post(url, data=content) as upstream:
        return await (_stream(request, upstream) if wanted else _whole(upstream))


async def _stream(request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    async for block in upstream.content.iter_any():
        if not response.prepared:
            await response.prepare(request)
        await response.write(block)
    await response.write_eof()
    return response


async def _whole(upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    reader, text, finish = EventReader(), "", None
    async for block in upstream.content.iter_any():
        for data in reader.feed(block):
            if (chunk := chunk_of(event_of(data))) is not None:
                text += chunk.text
                finish = chunk.finish_reason or finish
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return web.json_bytes_response({"choices": [choice]}, dumps=json.encode)


async def _health(request: web.Request) -> web.Response:
    return web.Response()


async def serve(port: int, upstream: str) -> None:
    """Serve on 127.0.0.1 until cancelled."""
    app = web.Application()
    app[UPSTREAM] = upstream
    app.add_routes([web.post("/v1/chat/completions", chat), web.get("/health", _health)])
    jar, headers = aiohttp.DummyCookieJar(), {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(cookie_jar=jar, headers=headers) as client:
        app[CLIENT] = client
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()


def main() -> None:
    """Serve as the arguments say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    options = parser.parse_args()
    gc.freeze()
    event_loop.run(serve(options.port, options.upstream))


if __name__ == "__main__":
    main()
