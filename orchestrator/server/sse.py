"""Server-sent events: each leaves at once, and a client that stops reading is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from msgspec import Struct, json

from .state import REQUEST_ID

DONE = object()
"""The payload that ends a stream which succeeded: ``[DONE]``."""


class Named(Struct, frozen=True):
    """A payload whose event has a name."""

    name: str
    payload: object


def encode(payload: object) -> bytes:
    """Return one event: its name if it has one, ``data:``, compact JSON, a blank line."""
    if isinstance(payload, Named):
        return b"event: %s\n" % payload.name.encode() + encode(payload.payload)
    return b"data: " + (b"[DONE]" if payload is DONE else json.encode(payload)) + b"\n\n"


@asynccontextmanager
async def dropped_after(request: web.Request, seconds: float) -> AsyncIterator[None]:
    """Drop a client that has not taken what the block writes after ``seconds``.

    Raises:
        ConnectionResetError: it had to be dropped.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client stopped reading") from None


def taken_at_once(request: web.Request, num_bytes: int) -> bool:
    """Whether the socket takes a first write without waiting, so that it needs no time limit.

    That is certain for less than half of the limit of a buffer that is empty: the headers and the
    frames of chunks are written, too, and not counted here.
    """
    transport = request.transport
    if transport is None or transport.get_write_buffer_size() > 0:
        return False
    return 2 * num_bytes < transport.get_write_buffer_limits()[1]


class _Response(web.StreamResponse):
    """Headers wait for the first write, as those of aiohttp's own whole responses do."""

    _send_headers_immediately = False


class EventStream:
    """A streaming response. Headers leave together with the first event."""

    def __init__(self, request: web.Request, send_timeout_s: float) -> None:
        self._request = request
        self._send_timeout_s = send_timeout_s
        self._since_empty = 0
        self.response = _Response(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
                "X-Request-Id": request[REQUEST_ID],
            }
        )

    async def open(self, headers: Mapping[str, str]) -> None:
        """Fix status and headers; after this, errors are events."""
        self.response.headers.update(headers)
        await self.response.prepare(self._request)

    async def send(self, *payloads: object) -> None:
        """Send one event per payload; ``DONE`` is the last one.

        Raises:
            ConnectionResetError: the client is gone, or did not read for ``send_timeout_s``; its
                connection is closed.
        """
        await self._write(b"".join(map(encode, payloads)))

    async def comment(self, text: str) -> None:
        """Send a line that clients pass over. Raises as ``send``."""
        await self._write(b": %s\n\n" % text.encode())

    async def _write(self, data: bytes) -> None:
        if self._fits(data):
            await self.response.write(data)
            return
        async with dropped_after(self._request, self._send_timeout_s):
            await self.response.write(data)

    def _fits(self, data: bytes) -> bool:
        """Whether this, too, leaves the buffer half empty; see ``taken_at_once``."""
        transport = self._request.transport
        if transport is None:
            return False
        if transport.get_write_buffer_size() == 0:
            self._since_empty = 0
        self._since_empty += len(data)
        return 2 * self._since_empty < transport.get_write_buffer_limits()[1]
