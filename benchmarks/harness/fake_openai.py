"""A server of known latency, for measuring the harness: as little as possible between two sockets.

    python -m livemind.benchmarks.harness.fake_openai PORT TTFT_MS

Speaks just enough of ``/v1/chat/completions`` (streaming) and ``ws /v1/live``. ``GET /record``
says, by cache salt, when the last byte of each request arrived and when its first token was
written, in seconds of the monotonic clock, which processes of one machine share.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

TOKENS = 8
TOKEN_GAP_S = 0.002
MODEL = "fake"
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
Json = dict[str, Any]


class FakeOpenAI(asyncio.Protocol):
    """One connection; HTTP requests one after the other, or a WebSocket from the upgrade on."""

    def __init__(self, ttft_s: float, record: dict[str, tuple[float, float]]) -> None:
        self._ttft_s = ttft_s
        self._record = record
        self._transport: Any = None
        self._buffer = bytearray()
        self._salt: str | None = None
        self._live = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take in what is complete."""
        at_s = perf_counter()
        self._buffer += data
        while self._next_frame(at_s) if self._live else self._next_request(at_s):
            pass

    # ---- HTTP

    def _next_request(self, at_s: float) -> bool:
        head, found, _ = bytes(self._buffer).partition(b"\r\n\r\n")
        if not found:
            return False
        lines = head.decode("latin-1").split("\r\n")
        fields = (line.partition(": ") for line in lines[1:])
        headers = {name.lower(): value for name, _, value in fields}
        end = len(head) + 4 + int(headers.get("content-length", "0"))
        if len(self._buffer) < end:
            return False
        body = bytes(self._buffer[len(head) + 4 : end])
        del self._buffer[:end]
        path = lines[0].split(" ")[1]
        if path == "/v1/chat/completions":
            asked = json.loads(body)
            self._answer(asked["cache_salt"], at_s, self._chat_head(), _chunk, self._chat_end)
        elif path == "/v1/live":
            self._upgrade(headers["sec-websocket-key"])
        else:
            shown = self._record if path == "/record" else {"data": [{"id": MODEL}]}
            self._whole(json.dumps(shown).encode())
        return True

    def _whole(self, body: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self._transport.write(head.encode() + b"\r\n\r\n" + body)

    def _chat_head(self) -> bytes:
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )

    def _chat_end(self) -> bytes:
        finish = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
        usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": TOKENS}}
        return _event(finish) + _event(usage) + _chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"

    # ---- WebSocket

    def _upgrade(self, key: str) -> None:
        digest = hashlib.sha1(key.encode() + _WEBSOCKET_GUID, usedforsecurity=False).digest()
        accept = base64.b64encode(digest)
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._live = True

    def _next_frame(self, at_s: float) -> bool:
        """Take one masked frame of at most 64 KiB; anything but text closes the connection."""
        buffer = self._buffer
        if len(buffer) < 6:
            return False
        size, start = buffer[1] & 0x7F, 2
        if size == 126:
            size, start = int.from_bytes(buffer[2:4], "big"), 4
        end = start + 4 + size
        if len(buffer) < end:
            return False
        mask, opcode = buffer[start : start + 4], buffer[0] & 0x0F
        text = bytes(b ^ mask[n % 4] for n, b in enumerate(buffer[start + 4 : end]))
        del buffer[:end]
        if opcode != 1:
            self._transport.close()
            return False
        event = json.loads(text)
        if event["type"] == "session.update":
            self._salt = event["cache_salt"]
        elif event["type"] == "input_text.commit":
            self._answer(self._salt or "", at_s, b"", _delta, self._live_end)
        return True

    def _live_end(self) -> bytes:
        usage = {"prompt_tokens": 1, "completion_tokens": TOKENS}
        return _frame({"type": "response.done", "status": "completed", "usage": usage})

    # ---- the answer

    def _answer(
        self,
        salt: str,
        received_s: float,
        head: bytes,
        token: Callable[[int], bytes],
        end: Callable[[], bytes],
    ) -> None:
        """Send the tokens, the first after the known time, counted from the request's arrival."""
        loop = asyncio.get_running_loop()

        def send(number: int) -> None:
            if number == 0:
                first = head + token(0)
                self._record[salt] = received_s, perf_counter()
                self._transport.write(first)
            elif number < TOKENS:
                self._transport.write(token(number))
            else:
                self._transport.write(end())
                return
            loop.call_later(TOKEN_GAP_S, send, number + 1)

        loop.call_later(max(0.0, received_s + self._ttft_s - perf_counter()), send, 0)


def _chunk(number: int) -> bytes:
    return _event({"choices": [{"delta": {"content": f"{number} "}, "finish_reason": None}]})


def _event(payload: Json) -> bytes:
    return _chunked(b"data: " + json.dumps(payload).encode() + b"\n\n")


def _chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _delta(number: int) -> bytes:
    return _frame({"type": "response.output_text.delta", "delta": f"{number} "})


def _frame(payload: Json) -> bytes:
    data = json.dumps(payload).encode()
    assert len(data) < 126
    return bytes((0x81, len(data))) + data


async def serve(port: int, ttft_ms: float) -> None:
    """Serve until cancelled."""
    record: dict[str, tuple[float, float]] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: FakeOpenAI(ttft_ms / 1000.0, record), "127.0.0.1", port
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
