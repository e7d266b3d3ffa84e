"""An OpenAI-compatible backend of known latency, so that what stands before it can be measured.

    python -m livemind.benchmarks.gateway.fake --port 9000 --latency-ms 250 --itl-ms 10 --tokens 16

Every chat completion ends ``latency`` after its request was read and has ``tokens`` tokens, in a
stream ``itl`` apart. Written on bare sockets so that it costs little beside what is measured. Only
for trusted clients on this machine: it believes ``Content-Length`` and reads only what it needs of
a request.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
from functools import partial
from typing import cast

MODEL = "fake"
WORD = " word"
PROMPT_TOKENS = 8
_END_OF_HEAD = b"\r\n\r\n"
_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def whole_answer(tokens: int) -> bytes:
    """Return the response to a request without ``stream``."""
    message = {"role": "assistant", "content": WORD * tokens}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return _json({**_frame("chat.completion", [choice]), "usage": _usage(tokens)})


def stream_parts(tokens: int, *, usage: bool) -> tuple[bytes, ...]:
    """Return the writes of a streamed response: head and role, one per token, the end."""
    role = _event([{"index": 0, "delta": {"role": "assistant", "content": ""}}])
    word = _event([{"index": 0, "delta": {"content": WORD}, "finish_reason": None}])
    end = _event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    if usage:
        end += _event([], usage=_usage(tokens))
    end += _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return (_STREAM + role, *[word] * tokens, end)


class FakeExpert(asyncio.Protocol):
    """One connection; requests are answered one after the other.

    Args:
        latency_s: from the last byte of the request to the last token.
        tokens: words of every answer.
        itl_s: between two tokens of a stream.
    """

    def __init__(self, latency_s: float, tokens: int, itl_s: float = 0.0) -> None:
        self._latency_s = latency_s
        self._itl_s = itl_s
        self._before_first_s = latency_s - (tokens - 1) * itl_s
        self._whole = whole_answer(tokens)
        self._streams = {flag: stream_parts(tokens, usage=flag) for flag in (True, False)}
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer when a request is complete."""
        self._rest += data
        while (request := self._take()) is not None:
            target, body = request
            if b"/chat/completions" not in target:
                self._write(_json({"object": "list", "data": [{"id": MODEL, "object": "model"}]}))
                continue
            asked = json.loads(body)
            loop = asyncio.get_running_loop()
            if not asked.get("stream"):
                loop.call_later(self._latency_s, self._write, self._whole)
                continue
            options = asked.get("stream_options") or {}
            self._stream(loop, self._streams[bool(options.get("include_usage"))])

    def _take(self) -> tuple[bytes, bytes] | None:
        """Return request line and body of the next whole request, None if there is none yet."""
        head, end, rest = self._rest.partition(_END_OF_HEAD)
        if not end:
            return None
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if len(rest) < length:
            return None
        self._rest = rest[length:]
        return head.partition(b"\r\n")[0], rest[:length]

    def _stream(self, loop: asyncio.AbstractEventLoop, parts: tuple[bytes, ...]) -> None:
        """Write the head with the first token and the end with the last."""
        if self._itl_s == 0:
            loop.call_later(self._latency_s, self._write, *parts)
            return
        head, *words, end = parts
        words[0] = head + words[0]
        words[-1] += end
        first_s = loop.time() + self._before_first_s
        for number, word in enumerate(words):
            loop.call_at(first_s + number * self._itl_s, self._write, word)

    def _write(self, *parts: bytes) -> None:
        for part in parts:
            if self._transport is not None:
                self._transport.write(part)


async def serve(port: int, latency_s: float, tokens: int, itl_s: float) -> None:
    """Serve on 127.0.0.1 until cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        partial(FakeExpert, latency_s, tokens, itl_s), "127.0.0.1", port, backlog=1024
    )
    async with server:
        await server.serve_forever()


def _frame(kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
    return {
        "id": "chatcmpl-fake",
        "object": kind,
        "created": 1700000000,
        "model": MODEL,
        "choices": choices,
    }


def _usage(tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": tokens,
        "total_tokens": PROMPT_TOKENS + tokens,
    }


def _event(choices: list[dict[str, object]], usage: dict[str, int] | None = None) -> bytes:
    frame = _frame("chat.completion.chunk", choices)
    if usage is not None:
        frame["usage"] = usage
    return _chunk(b"data: " + json.dumps(frame, separators=(",", ":")).encode() + b"\n\n")


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


def _json(payload: object) -> bytes:
    content = json.dumps(payload, separators=(",", ":")).encode()
    return _JSON % (len(content), content)


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--itl-ms", type=float, default=0.0)
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args()
    latency_s, itl_s = options.latency_ms / 1000.0, options.itl_ms / 1000.0
    gc.freeze()
    asyncio.run(serve(options.port, latency_s, options.tokens, itl_s))


if __name__ == "__main__":
    main()
