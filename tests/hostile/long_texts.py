"""Sends long and odd texts to every door of a gateway, and is the remote server behind it.

    python long_texts.py URL PORT EXPERT…

A process of its own, so that its work is not the gateway's. Prints one JSON line for each text at
each door: when it began and ended on the monotonic clock, and what came back.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web

LONG = 99_990
TEXTS = {
    "a word": "a" * LONG,
    "blanks and a word": " " * LONG + "word",
    "letters": "a " * (LONG // 2),
    "words": "what is the pool of the town " * (LONG // 30),
    "newlines": "\n" * LONG + "x",
    "marks": "." * LONG,
    "wide": "漢字" * (LONG // 2),
    "combining": "e" + "\u0301" * (LONG - 1),
}
Door = Callable[[aiohttp.ClientSession, str, str, str], Awaitable[str]]


async def live(http: aiohttp.ClientSession, url: str, expert: str, text: str) -> str:
    """Type the text in three pieces, change its end, commit it."""
    async with http.ws_connect(url.replace("http", "ws") + "/v1/live", max_msg_size=0) as socket:
        frames: list[dict[str, Any]] = [
            {"type": "session.update", "model": expert, "speculation": "draft"},
            {"type": "input_text.append", "text": text[: len(text) // 2]},
            {"type": "input_text.append", "text": text[len(text) // 2 :]},
            {"type": "input_text.replace", "text": text[:-1] + "b"},
            {"type": "input_text.replace", "text": text},
        ]
        for frame in frames:
            await socket.send_str(json.dumps(frame))
            await asyncio.sleep(0.2)
        await socket.send_str(json.dumps({"type": "input_text.commit", "text": text}))
        return await ended(socket, "response.done")


async def realtime(http: aiohttp.ClientSession, url: str, expert: str, text: str) -> str:
    """Make the text an item and ask for a response."""
    address = url.replace("http", "ws") + f"/v1/realtime?model={expert}"
    async with http.ws_connect(address, max_msg_size=0) as socket:
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content}
        await socket.send_str(json.dumps({"type": "conversation.item.create", "item": item}))
        await socket.send_str(json.dumps({"type": "response.create"}))
        return await ended(socket, "response.done")


async def ended(socket: aiohttp.ClientWebSocketResponse, kind: str) -> str:
    async with asyncio.timeout(60):
        async for message in socket:
            event = json.loads(message.data)
            if event["type"] == kind:
                done = event.get("response", event)
                error = done.get("error") or (done.get("status_details") or {}).get("error")
                return str((error or {}).get("code") or done["status"])
            if event["type"] == "error":
                return str(event["error"]["code"])
    return "closed"


async def sessions(http: aiohttp.ClientSession, url: str, expert: str, text: str) -> str:
    """Put the text into a session over HTTP, then ask with it."""
    async with http.post(f"{url}/v1/live/sessions", json={"model": expert}) as response:
        made = await response.json()
    there = f"{url}/v1/live/sessions/{made['id']}"
    for part in (text[: len(text) // 2], text):
        async with http.put(f"{there}/input", json={"text": part}) as response:
            await response.read()
        await asyncio.sleep(0.2)
    headers = {"X-LiveMind-Session": made["id"]}
    status = await post(http, f"{url}/v1/chat/completions", chat_body(expert, text), headers)
    async with http.delete(there) as response:
        await response.read()
    return status


def chat_body(expert: str, text: str, **fields: Any) -> dict[str, Any]:
    return {"model": expert, "messages": [{"role": "user", "content": text}]} | fields


async def post(
    http: aiohttp.ClientSession, url: str, body: object, headers: dict[str, str] | None = None
) -> str:
    async with http.post(url, json=body, headers=headers) as response:
        await response.read()
        return str(response.status)


async def chat(http: aiohttp.ClientSession, url: str, expert: str, text: str) -> str:
    return await post(http, f"{url}/v1/chat/completions", chat_body(expert, text))


async def streamed(http: aiohttp.ClientSession, url: str, expert: str, text: str) -> str:
    return await post(http, f"{url}/v1/chat/completions", chat_body(expert, text, stream=True))


async def routed(http: aiohttp.ClientSession, url: str, expert: str, text: str) -> str:
    return await post(http, f"{url}/v1/chat/completions", chat_body("auto", text))


async def history(http: aiohttp.ClientSession, url: str, expert: str, text: str) -> str:
    said = [{"role": "user", "content": text}, {"role": "assistant", "content": "so"}]
    body = chat_body(expert, "and now?")
    body["messages"] = said + body["messages"]
    return await post(http, f"{url}/v1/chat/completions", body)


async def responses(http: aiohttp.ClientSession, url: str, expert: str, text: str) -> str:
    return await post(http, f"{url}/v1/responses", {"model": expert, "input": text})


async def completions(http: aiohttp.ClientSession, url: str, expert: str, text: str) -> str:
    return await post(http, f"{url}/v1/completions", {"model": expert, "prompt": text})


async def tokenize(http: aiohttp.ClientSession, url: str, expert: str, text: str) -> str:
    return await post(http, f"{url}/tokenize", {"model": expert, "prompt": text})


DOORS: dict[str, Door] = {
    "live": live,
    "realtime": realtime,
    "sessions": sessions,
    "chat": chat,
    "streamed": streamed,
    "routed": routed,
    "history": history,
    "responses": responses,
    "completions": completions,
    "tokenize": tokenize,
}


async def remote(port: int) -> web.AppRunner:
    """Serve what answers everything with one word; the model ``open`` leaves turns open."""

    async def models(request: web.Request) -> web.Response:
        return web.json_response(
            {"data": [{"id": name, "max_model_len": 10_000_000} for name in ("open", "m")]}
        )

    async def answer(request: web.Request) -> web.StreamResponse:
        asked = await request.read()
        streams = re.search(rb'"stream": ?true', asked) is not None
        opened = b"continue_final_message" in asked and b'"open"' in asked
        whole = {"index": 0, "message": {"role": "assistant", "content": "so"}, "text": "so"}
        used = {"prompt_tokens": 8 if opened else 9, "completion_tokens": 1}
        if not streams:
            return web.json_response(
                {"choices": [{**whole, "finish_reason": "length"}], "usage": used}
            )
        parts = (
            {"choices": [{"index": 0, "delta": {"content": "so"}, "text": "so"}]},
            {"choices": [{"index": 0, "delta": {}, "text": "", "finish_reason": "stop"}]},
            {"choices": [], "usage": used},
        )
        text = "".join(f"data: {json.dumps(part)}\n\n" for part in parts) + "data: [DONE]\n\n"
        return web.Response(text=text, content_type="text/event-stream")

    app = web.Application(client_max_size=1 << 26)
    app.router.add_get("/v1/models", models)
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


async def main() -> None:
    url, port, experts = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    runner = await remote(port)
    print(json.dumps("ready"), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    async with aiohttp.ClientSession() as http:
        for expert in experts:
            for door, ask in DOORS.items():
                for name, text in TEXTS.items():
                    began_s = time.monotonic()
                    status = await ask(http, url, expert, text)
                    ended_s = time.monotonic()
                    shown = {"expert": expert, "door": door, "text": name, "status": status}
                    print(json.dumps({**shown, "began_s": began_s, "ended_s": ended_s}), flush=True)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
