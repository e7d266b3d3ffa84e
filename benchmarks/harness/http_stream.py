"""Streaming HTTP POST as close to the socket as a client can be.

The moment of sending is read right before the bytes of a finished request go into the transport of
a connection that is already open; the moment of a line is that of the packet which completed it,
read before anything is parsed. h11 speaks HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

import h11

Line = Callable[[float, bytes], None]
MAX_LINE_BYTES = 16 * 2**20


class HttpFailure(Exception):
    """An answer that is not 200; ``body`` is what came with it."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"HTTP {status}: {body}")
        self.status = status
        self.body = body


class HttpStream:
    """Connections to one server; each carries one request at a time and is used again.

    Args:
        base_url: ``http://`` or ``https://`` with host, optional port and path.

    Raises:
        ValueError: the URL is of another kind.
    """

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise ValueError(f"base_url: got {base_url!r}, need http://… or https://…")
        self._host = parts.hostname
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._ssl else 80)
        self._authority, self._path = parts.netloc.rpartition("@")[2], parts.path.rstrip("/")
        self._idle: list[_Connection] = []

    async def post(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        sent: Callable[[float], None],
        line: Line,
    ) -> None:
        """Send a request and hand over each line of the answer as it comes.

        Args:
            path: behind the base URL.
            body: JSON.
            headers: besides those that every such request has.
            sent: gets the moment of sending, seconds of ``perf_counter``.
            line: gets moment and content, without the line's end; what it raises is raised here.

        Raises:
            HttpFailure: the status is not 200.
            OSError: no connection, or it ended before the answer did.
            h11.RemoteProtocolError: this is not HTTP.
        """
        connection = await self._connection()
        request = h11.Request(
            method="POST",
            target=self._path + path,
            headers=[
                ("Host", self._authority),
                ("Content-Type", "application/json"),
                ("Accept", "text/event-stream"),
                ("Content-Length", str(len(body))),
                *headers.items(),
            ],
        )
        try:
            await connection.exchange(request, body, sent, line)
        except BaseException:
            connection.close()
            raise
        if connection.usable:
            self._idle.append(connection)

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        _, opened = await loop.create_connection(_Connection, self._host, self._port, ssl=self._ssl)
        return opened

    def close(self) -> None:
        """Close the connections that wait for another request."""
        while self._idle:
            self._idle.pop().close()


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT)
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None
        self._line: Line = lambda at_s, content: None
        self._status = 0
        self._buffer = bytearray()

    @property
    def usable(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and self._http.our_state is h11.IDLE

    async def exchange(
        self, request: h11.Request, body: bytes, sent: Callable[[float], None], line: Line
    ) -> None:
        """Send, and wait for the end of the answer."""
        assert self._transport is not None
        self._line, self._status, self._buffer = line, 0, bytearray()
        self._done = asyncio.get_running_loop().create_future()
        parts = [request, h11.Data(data=body), h11.EndOfMessage()]
        content = b"".join(self._http.send(part) or b"" for part in parts)
        sent(perf_counter())
        self._transport.write(content)
        await self._done
        if self._status != 200:
            raise HttpFailure(self._status, self._buffer.decode("utf-8", "replace"))
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()

    def close(self) -> None:
        """Drop the connection, whatever it is doing."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    # ---- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take the time, then parse."""
        at_s = perf_counter()
        self._take(at_s, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """End an answer that only this ends; fail one that is cut off."""
        self._take(perf_counter(), b"")
        self._transport = None
        self._finish(exc or ConnectionResetError("the connection closed before the answer ended"))

    def _take(self, at_s: float, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            self._events(at_s)
        except Exception as exc:  # the waiting coroutine gets it, whatever it is
            self._finish(exc)

    def _events(self, at_s: float) -> None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Response):
                self._status = event.status_code
            elif isinstance(event, h11.Data):
                self._buffer += event.data
                if self._status == 200:
                    self._lines(at_s)
            elif isinstance(event, h11.EndOfMessage):
                self._finish(None)
                return
            elif (
                event is h11.NEED_DATA
                or event is h11.PAUSED
                or isinstance(event, h11.ConnectionClosed)
            ):
                return

    def _lines(self, at_s: float) -> None:
        *lines, rest = self._buffer.split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise ValueError(f"a line of the answer is longer than {MAX_LINE_BYTES} bytes")
        self._buffer = rest
        for content in lines:
            self._line(at_s, bytes(content).rstrip(b"\r"))

    def _finish(self, exc: Exception | None) -> None:
        if self._done is None or self._done.done():
            return
        if exc is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(exc)
