"""A server of known latency: as little as possible between two sockets.

    python -m livemind.benchmarks.harness.fake_server --port 9000 --latency-ms 250 --tokens 16

Speaks just enough of ``/v1/chat/completions`` and ``ws /v1/live``. Every answer ends ``latency``
after its request was read and has ``tokens`` tokens, in a stream ``itl`` apart. ``GET /record``
says, by cache salt, when the last byte of each request arrived and when its first token was
written, in seconds of the monotonic clock, which processes of one machine share. Only for trusted
clients on this machine: it believes ``Content-Length`` and reads only what it needs of a request.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import hashlib
import json
import sys
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any, cast

Json = dict[str, Any]
Writes = Iterable[tuple[float, Sequence[bytes]]]
"""What to write at once, so many seconds after the last byte of the request; at different times."""
MODEL = "fake"
SESSION = {
    "id": "s",
    "model": MODEL,
    "instructions": None,
    "consensus": {
        "policy": "first",
        "experts": [],
        "answer": "text",
        "labels": [],
        "quorum": 1,
        "gate": "auto",
        "verdict": "ask",
        "deadline_ms": 2000,
    },
    "speculation": "off",
    "on_cold": None,
    "retrieval": False,
    "input": {"kind": "auto", "transcripts_equal": "exact"},
    "documents": 0,
    "sampling": {},
    "consistency": "final",
    "turn_id": "resp_0",
    "turn": 0,
    "interrupt": "commit",
    "segment": None,
}
"""What a live session says that it is set to."""
WORD = " word"
PROMPT_TOKENS = 8
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_EVENT = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def whole(payload: object, status: str = "200 OK") -> bytes:
    """Return a JSON response."""
    content = _dumped(payload)
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: "
    return head.encode() + b"%d\r\n\r\n%s" % (len(content), content)


def event(payload: Json) -> bytes:
    """Return one event of a streamed response."""
    content = b"data: " + _dumped(payload) + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(content), content)


def frame(payload: Json) -> bytes:
    """Return one text frame of a WebSocket, shorter than 64 KiB."""
    content = _dumped(payload)
    size = len(content)
    length = bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return b"\x81" + length + content


class FakeServer:
    """What every connection of one server answers; a subclass may answer otherwise.

    Args:
        latency_s: from the last byte of the request to the last token.
        tokens: words of every answer.
        itl_s: between two tokens of a stream.
    """

    def __init__(self, latency_s: float = 0.0, tokens: int = 16, itl_s: float = 0.0) -> None:
        self.record: dict[str, tuple[float, float]] = {}
        self.connections: list[Connection] = []
        times_s = [latency_s - n * itl_s for n in range(tokens)][::-1]
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens}
        usage["total_tokens"] = PROMPT_TOKENS + tokens
        message = {"role": "assistant", "content": WORD * tokens}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = whole({**head_of("chat.completion"), "choices": [choice], "usage": usage})
        self._whole = [(latency_s, [answer])]
        end = chunk({}, "stop"), LAST_EVENT
        told = event({**head_of("chat.completion.chunk"), "choices": [], "usage": usage})
        first = STREAM + chunk({"role": "assistant", "content": ""})
        words = [chunk({"content": WORD})] * tokens
        self._streams = {
            False: timed(times_s, first, words, b"".join(end)),
            True: timed(times_s, first, words, told.join(end)),
        }
        named = {"response_id": "r"}
        delta = frame({"type": "response.output_text.delta", **named, "delta": WORD})
        ended = {**named, "revision": 1, "status": "completed", "usage": usage}
        done = frame({"type": "response.done", **ended})
        self._live = timed(times_s, b"", [delta] * tokens, done)

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncGenerator[str, None]:
        """Serve on 127.0.0.1; yields the base URL, ends every connection with the block."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(self), "127.0.0.1", port, backlog=1024)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for one in list(self.connections):
                one.close()

    def models(self) -> Json:
        """Return the answer to ``GET /v1/models``, and to whatever else is not known."""
        return {"object": "list", "data": [{"id": MODEL, "object": "model"}]}

    def chat(self, asked: Json) -> Writes:
        """Return the answer to a chat request."""
        if not asked.get("stream"):
            return self._whole
        return self._streams[bool((asked.get("stream_options") or {}).get("include_usage"))]

    def live(self, talk: Connection, told: Json) -> Writes | None:
        """Return the answer to one event of a live session; None = the connection is closed."""
        if told["type"] == "session.update":
            talk.send(frame({"type": "session.updated", "session": SESSION}))
            talk.salt = told.get("cache_salt", talk.salt)
        return self._live if told["type"] == "input_text.commit" else ()


class Connection(asyncio.Protocol):
    """One connection; HTTP requests one after the other, or a WebSocket from the upgrade on."""

    def __init__(self, server: FakeServer) -> None:
        self.salt: str | None = None
        self.text = ""
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self.is_live = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None
        self._server.connections.remove(self)

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        at_s = perf_counter()
        self._rest += data
        while self._next_frame(at_s) if self.is_live else self._next_request(at_s):
            pass

    def send(self, frame: bytes) -> None:
        """Send a frame that is no answer to a request."""
        self._send([frame])

    def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._transport is not None:
            self._transport.close()

    def _next_request(self, at_s: float) -> bool:
        head, found, rest = self._rest.partition(b"\r\n\r\n")
        if not found:
            return False
        target, *lines = head.split(b"\r\n")
        fields = (line.partition(b":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        length = int(headers.get(b"content-length", 0))
        if len(rest) < length:
            return False
        self._rest = rest[length:]
        if b"/chat/completions" in target:
            asked = json.loads(rest[:length])
            self._write(self._server.chat(asked), at_s, asked.get("cache_salt"))
        elif b"/v1/live" in target:
            key = headers[b"sec-websocket-key"] + _WEBSOCKET_GUID
            accept = base64.b64encode(hashlib.sha1(key, usedforsecurity=False).digest())
            switched = (
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            self.is_live = True
            self._send([switched])
        else:
            record = b"/record" in target
            shown = whole(self._server.record if record else self._server.models())
            self._send([shown])
        return True

    def _next_frame(self, at_s: float) -> bool:
        """Take one masked frame; anything but a whole text closes the connection."""
        buffer = self._rest
        if len(buffer) < 6:
            return False
        size = buffer[1] & 0x7F
        start = {126: 4, 127: 10}.get(size, 2)
        size = int.from_bytes(buffer[2:start], "big") if start > 2 else size
        end = start + 4 + size
        if len(buffer) < end:
            return False
        mask, is_text = buffer[start : start + 4], buffer[0] & 0x0F == 1
        text = bytes(b ^ mask[n % 4] for n, b in enumerate(buffer[start + 4 : end]))
        self._rest = buffer[end:]
        answer = self._server.live(self, json.loads(text)) if is_text else None
        if answer is None:
            self.close()
            return False
        self._write(answer, at_s, self.salt)
        return True

    def _write(self, writes: Writes, at_s: float, salt: str | None) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time() - perf_counter() + at_s
        for after_s, parts in writes:
            if after_s > 0:
                loop.call_at(began_s + after_s, self._send, parts, at_s, salt)
            else:
                self._send(parts, at_s, salt)

    def _send(self, parts: Sequence[bytes], at_s: float = 0.0, salt: str | None = None) -> None:
        if salt is not None:
            self._server.record.setdefault(salt, (at_s, perf_counter()))
        for part in parts:
            if self._transport is not None:
                self._transport.write(part)


def timed(times_s: list[float], first: bytes, words: list[bytes], end: bytes) -> Writes:
    """Return the writes of an answer: its beginning with the first word, its end with the last."""
    if times_s[0] == times_s[-1]:
        return [(times_s[0], [part for part in (first, *words, end) if part])]
    words = [first + words[0], *words[1:-1], words[-1] + end]
    return [(after_s, [word]) for after_s, word in zip(times_s, words, strict=True)]


def chunk(delta: Json, finish_reason: str | None = None) -> bytes:
    """Return one event of a streamed chat."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return event({**head_of("chat.completion.chunk"), "choices": [choice]})


def head_of(kind: str) -> Json:
    """Return what every answer of this kind begins with."""
    return {"id": "chatcmpl-fake", "object": kind, "created": 1700000000, "model": MODEL}


def _dumped(payload: object) -> bytes:
    return json.dumps(payload, separators=(",", ":")).encode()


def command(
    port: int, latency_ms: float, itl_ms: float, tokens: int, module: str = __name__
) -> tuple[str, ...]:
    """Return what starts such a server, or one of a subclass's module."""
    told = {"port": port, "latency-ms": latency_ms, "itl-ms": itl_ms, "tokens": tokens}
    given = (text for name, value in told.items() for text in (f"--{name}", str(value)))
    return (sys.executable, "-m", module, *given)


async def _serve(port: int, server: FakeServer) -> None:
    async with server.serving(port):
        await asyncio.Event().wait()


def main(server: type[FakeServer] = FakeServer) -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--itl-ms", type=float, default=0.0)
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args()
    latency_s, itl_s = options.latency_ms / 1000.0, options.itl_ms / 1000.0
    gc.freeze()
    asyncio.run(_serve(options.port, server(latency_s, options.tokens, itl_s)))


if __name__ == "__main__":
    main()
