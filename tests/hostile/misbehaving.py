"""A server that looks like an OpenAI-compatible one and misbehaves as the last message says.

On raw sockets, because no HTTP library would send most of this.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

Writer = asyncio.StreamWriter
Behaviour = Callable[[Writer], Awaitable[None]]

MODELS = {"object": "list", "data": [{"id": "m", "max_model_len": 4096}]}
ENDLESS_S = 30.0


def delta(text: object = "word ", **choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, **choice}]}


STOP: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
WHOLE: dict[str, Any] = {
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}


def usage(**fields: object) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, **fields}}


def head(status: str = "200 OK", kind: str = "text/event-stream", *more: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", f"Content-Type: {kind}", *more, "", "")).encode()


def events(*parts: object, end: bytes = b"\n\n") -> bytes:
    return b"".join(b"data: " + json.dumps(part).encode() + end for part in parts)


DONE = b"data: [DONE]\n\n"
CLOSE = "Connection: close"


def sends(*pieces: bytes, pause_s: float = 0.0) -> Behaviour:
    async def behave(writer: Writer) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return behave


def streams(*pieces: bytes) -> Behaviour:
    return sends(head("200 OK", "text/event-stream", CLOSE), *pieces)


def answers(
    status: str, body: bytes = b"", kind: str = "application/json", *more: str
) -> Behaviour:
    return sends(head(status, kind, f"Content-Length: {len(body)}", CLOSE, *more) + body)


def error(status: str, *more: str, **fields: object) -> Behaviour:
    return answers(status, json.dumps({"error": fields}).encode(), "application/json", *more)


def endless(piece: bytes, pause_s: float = 0.05) -> Behaviour:
    async def behave(writer: Writer) -> None:
        writer.write(head("200 OK", "text/event-stream", CLOSE))
        for _ in range(int(ENDLESS_S / pause_s)):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return behave


async def silent(writer: Writer) -> None:
    await asyncio.sleep(ENDLESS_S)


async def resets(writer: Writer) -> None:
    writer.write(head() + events(delta()))
    await writer.drain()
    writer.transport.abort()


GOOD = events(delta("Hello "), delta("there"), STOP, usage()) + DONE

BEHAVIOURS: dict[str, Behaviour] = {
    "well": streams(GOOD),
    "bom": streams(b"\xef\xbb\xbf" + GOOD),
    "carriage-returns": streams(events(delta(), STOP, end=b"\r\r") + b"data: [DONE]\r\r"),
    "byte-by-byte": streams(*(bytes((byte,)) for byte in GOOD)),
    "many-lines": streams(
        b'data: {"choices": [{"index": 0,\ndata: "delta": {"content": "x"}}]}\n\n'
    ),
    "comments": streams(b": ping\n\n" * 1000, GOOD),
    "no-done": streams(events(delta(), STOP)),
    "no-finish": streams(events(delta(), delta())),
    "nothing": streams(),
    "done-only": streams(DONE),
    "stops-open": sends(head(), events(delta(), STOP), pause_s=0.0),
    "whole-json": answers("200 OK", json.dumps(WHOLE).encode()),
    "html": answers("200 OK", b"<html><body>Welcome</body></html>", "text/html"),
    "empty": answers("200 OK"),
    "no-content": answers("204 No Content"),
    "not-json": streams(b"data: {not json}\n\n", DONE),
    "half-json": streams(b'data: {"choices": [{"ind'),
    "json-number": streams(b"data: 7\n\n", b"data: null\n\n", b"data: []\n\n", DONE),
    "deep-json": streams(b"data: " + b"[" * 20_000 + b"]" * 20_000 + b"\n\n", DONE),
    "bad-utf-8": streams(b'data: {"choices": [{"delta": {"content": "\xff\xfe"}}]}\n\n', DONE),
    "lone-surrogate": streams(
        b'data: {"choices": [{"index": 0, "delta": {"content": "\\ud800"}}]}\n\n',
        events(STOP),
        DONE,
    ),
    "nul": streams(events(delta("\0\0")), events(STOP), DONE),
    "content-number": streams(events(delta(7), STOP), DONE),
    "content-list": streams(events(delta([{"type": "text", "text": "x"}]), STOP), DONE),
    "choices-null": streams(events({"choices": None}, STOP), DONE),
    "choices-text": streams(events({"choices": "none"}), DONE),
    "choices-many": streams(
        events({"choices": [{"index": n, "delta": {"content": "x"}} for n in (3, 1, 0, 2)]}, STOP)
    ),
    "index-negative": streams(
        events({"choices": [{"index": -1, "delta": {"content": "x"}}]}), DONE
    ),
    "delta-null": streams(events({"choices": [{"index": 0, "delta": None}]}, STOP), DONE),
    "finish-unknown": streams(events(delta(finish_reason="because")), DONE),
    "finish-number": streams(events(delta(finish_reason=3)), DONE),
    "after-finish": streams(events(STOP, delta("more"), STOP), DONE),
    "after-done": streams(GOOD, events(delta("more"))),
    "usage-negative": streams(
        events(delta(), STOP, usage(prompt_tokens_details={"cached_tokens": -5})), DONE
    ),
    "usage-huge": streams(events(delta(), STOP, usage(prompt_tokens=10**30)), DONE),
    "usage-text": streams(events(delta(), STOP, usage(prompt_tokens="many")), DONE),
    "usage-float": streams(events(delta(), STOP, usage(completion_tokens=1.5)), DONE),
    "usage-list": streams(events(delta(), STOP, {"choices": [], "usage": [1]}), DONE),
    "tool-half": streams(
        events(delta(None, delta={"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]})),
        events(STOP),
        DONE,
    ),
    "tool-wrong": streams(
        events({"choices": [{"index": 0, "delta": {"tool_calls": 3}}]}, STOP), DONE
    ),
    "logprobs-wrong": streams(events(delta(logprobs={"content": [{"token": 3}]}), STOP), DONE),
    "error-at-once": streams(events({"error": {"message": "secret /etc/passwd", "code": 500}})),
    "error-later": streams(events(delta(), {"error": {"message": "CUDA out of memory"}})),
    "error-text": streams(events(delta(), {"error": "broken"})),
    "long-line": streams(b"data: " + b"x" * (2 << 20) + b"\n\n", DONE),
    "no-line-end": streams(b"data: " + b"x" * (2 << 20)),
    "resets": resets,
    "closes": sends(),
    "closes-in-head": sends(b"HTTP/1.1 200 OK\r\nContent-Ty"),
    "no-http": sends(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "old-http": sends(b"HTTP/0.9 200 OK\r\n\r\n", GOOD),
    "long-head": sends(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"),
    "two-lengths": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\nhello"),
    "short-body": sends(head("200 OK", "text/event-stream", "Content-Length: 9999"), GOOD),
    "bad-chunk": sends(
        head("200 OK", "text/event-stream", "Transfer-Encoding: chunked"), b"zz\r\n"
    ),
    "cut-chunk": sends(
        head("200 OK", "text/event-stream", "Transfer-Encoding: chunked"), b"ff\r\ndata: "
    ),
    "not-gzip": sends(head("200 OK", "text/event-stream", "Content-Encoding: gzip", CLOSE), GOOD),
    "cut-gzip": sends(
        head("200 OK", "text/event-stream", "Content-Encoding: gzip", CLOSE),
        gzip.compress(GOOD)[:-10],
    ),
    "unknown-encoding": sends(head("200 OK", "text/event-stream", "Content-Encoding: zstd"), GOOD),
    "redirect": answers("302 Found", b"", "text/plain", "Location: http://127.0.0.1:1/"),
    "switches": sends(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    ),
    "continues": sends(b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + head("200 OK", "x", CLOSE), GOOD),
    "400": error("400 Bad Request", message="no", param="temperature", code="invalid"),
    "400-bare": answers("400 Bad Request", b"no"),
    "401": error("401 Unauthorized", message="bad key sk-secret"),
    "404": error("404 Not Found", message="The model does not exist"),
    "405": answers("405 Method Not Allowed", b"<h1>nginx</h1>", "text/html"),
    "418": answers("418 I'm a teapot"),
    "413": answers("413 Payload Too Large", b"<h1>nginx</h1>", "text/html"),
    "422": error("422 Unprocessable Entity", message=[{"loc": ["body"]}]),
    "429": error("429 Too Many Requests", "Retry-After: 1", message="slow down"),
    "429-nan": error("429 Too Many Requests", "Retry-After: nan", message="slow down"),
    "429-inf": error("429 Too Many Requests", "Retry-After: 1e999", message="slow down"),
    "429-date": error("429 Too Many Requests", "Retry-After: Wed, 21 Oct 1970 07:28:00 GMT"),
    "429-negative": error("429 Too Many Requests", "Retry-After: -5"),
    "500": error("500 Internal Server Error", message="Traceback (most recent call last)"),
    "500-html": answers("500 Internal Server Error", b"<html>" * 10_000, "text/html"),
    "502": answers("502 Bad Gateway", b"<h1>nginx</h1>", "text/html"),
    "503": answers("503 Service Unavailable", b"", "text/plain", "Retry-After: 2"),
    "599": answers("599 Whatever", b"\xff\xfe"),
    "402": error("402 Payment Required", message="quota of sk-secret is spent"),
    "408": answers("408 Request Timeout"),
    "409": error("409 Conflict", "Retry-After: 1", message="busy"),
    "425": answers("425 Too Early", b"<h1>nginx</h1>", "text/html"),
    "451": error("451 Unavailable For Legal Reasons", message="no"),
    "501": answers("501 Not Implemented", b"Traceback", "text/plain"),
    "504": answers("504 Gateway Timeout", b"<h1>nginx</h1>", "text/html"),
    "503-century": error("503 Service Unavailable", "Retry-After: 3153600000", message="later"),
    "503-words": error("503 Service Unavailable", "Retry-After: soon", message="later"),
    "200-error": error("200 OK", message="/etc/passwd is not a model"),
    "error-number": answers("500 Internal Server Error", b'{"error": 7}'),
    "error-list": answers("500 Internal Server Error", b'[{"error": "Traceback"}]'),
    "whole-no-choices": answers("200 OK", b'{"choices": [], "usage": null}'),
    "whole-null-message": answers(
        "200 OK", b'{"choices": [{"index": 0, "message": null, "finish_reason": "stop"}]}'
    ),
    "whole-parts": answers(
        "200 OK",
        b'{"choices": [{"index": 0, "message": {"content": [{"type": "text", "text": "x"}]}}]}',
    ),
    "literals": streams(b'data: {"choices": NaN, "usage": Infinity}\n\n', DONE),
    "named-events": streams(b"event: ping\nid: 1\nretry: 0\ndata: {}\n\n", GOOD),
    "error-event": streams(b'event: error\ndata: {"message": "CUDA"}\n\n'),
    "role-only": streams(events({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})),
    "role-changes": streams(
        events({"choices": [{"index": 0, "delta": {"role": "user", "content": "x"}}]}, STOP), DONE
    ),
    "index-huge": streams(
        events({"choices": [{"index": 10**20, "delta": {"content": "x"}}]}), DONE
    ),
    "index-text": streams(events({"choices": [{"index": "0", "delta": {"content": "x"}}]}), DONE),
    "usage-first": streams(events(usage(), delta(), STOP), DONE),
    "usage-twice": streams(events(delta(), STOP, usage(), usage(completion_tokens=9)), DONE),
    "usage-less-than-none": streams(events(delta(), STOP, usage(completion_tokens=-1)), DONE),
    "cached-more-than-prompt": streams(
        events(delta(), STOP, usage(prompt_tokens_details={"cached_tokens": 99})), DONE
    ),
    "tool-arguments-object": streams(
        events(
            {
                "choices": [
                    {
                        "index": 0,
                        "delta": {
                            "tool_calls": [
                                {"index": 0, "id": "c", "function": {"name": "f", "arguments": {}}}
                            ]
                        },
                    }
                ]
            },
            STOP,
        ),
        DONE,
    ),
    "reasoning-number": streams(
        events({"choices": [{"index": 0, "delta": {"reasoning_content": 3}}]}, STOP), DONE
    ),
    "utf-16": answers("200 OK", json.dumps(WHOLE).encode("utf-16")),
    "long-gzip": sends(
        head("200 OK", "text/event-stream", "Content-Encoding: gzip", CLOSE),
        gzip.compress(b"data: " + b" " * (8 << 20) + b"\n\n"),
    ),
    "many-headers": sends(head("200 OK", "text/event-stream", *["X-Y: z"] * 2000, CLOSE), GOOD),
    "chunk-extension": sends(
        head("200 OK", "text/event-stream", "Transfer-Encoding: chunked"),
        b"%x;name=value\r\n%b\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(GOOD), GOOD),
    ),
    "999": sends(b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n"),
}
SLOW: dict[str, Behaviour] = {
    "silent": silent,
    "silent-after-head": sends(head(), b"", pause_s=ENDLESS_S),
    "silent-after-a-word": sends(head() + events(delta()), b"", pause_s=ENDLESS_S),
    "pings-for-ever": endless(b": ping\n\n"),
    "empty-for-ever": endless(events(delta(""))),
    "slow-head": sends(*(bytes((byte,)) for byte in head()), pause_s=0.5),
}
EVERY = {**BEHAVIOURS, **SLOW}


@asynccontextmanager
async def misbehaving_server() -> AsyncIterator[str]:
    """Serve on a loopback port; yields the base URL."""
    running: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await _answer(reader, writer)
        finally:
            running.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tuple(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _answer(reader: asyncio.StreamReader, writer: Writer) -> None:
    request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    if request.startswith("GET "):
        await answers("200 OK", json.dumps(MODELS).encode())(writer)
        return
    length = next(
        int(line.partition(":")[2])
        for line in request.splitlines()
        if line.lower().startswith("content-length:")
    )
    body = json.loads(await reader.readexactly(length))
    said = str(body.get("messages", [{}])[-1].get("content", "")).split()
    behaviour = EVERY.get(said[-1] if said else "")
    await (behaviour or answers("200 OK", json.dumps(WHOLE).encode()))(writer)
