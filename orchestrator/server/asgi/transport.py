"""The server's end of a connection without a socket, and both ways of what passes through it.

aiohttp's protocol is spoken to as by a socket's transport: the bytes of a request go in, those of
the answer come out, and each side can hold the other back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping, MutableMapping
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]


class Receive(Protocol):
    """What an ASGI server says next."""

    def __call__(self) -> Awaitable[Message]:
        """Wait for it."""


class Send(Protocol):
    """Where an ASGI server takes an answer."""

    def __call__(self, message: Message, /) -> Awaitable[None]:
        """Wait until it can take more."""


HIGH_BYTES = 65_536
LOW_BYTES = HIGH_BYTES // 4
"""The protocol is told to wait above the one and to go on at the other, as asyncio's sockets do."""


class MemoryTransport(asyncio.Transport):
    """A transport whose other end is ``feed``, ``read`` and ``lose``. Belongs to one event loop.

    Args:
        protocol: of the server; it is connected at once.
        told: what ``get_extra_info`` says, ``peername`` above all.
    """

    def __init__(self, protocol: asyncio.Protocol, told: Mapping[str, Any]) -> None:
        super().__init__(dict(told))
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._written = bytearray()
        self._sending = 0
        self._changed = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()
        self._aborted = asyncio.Event()
        self._closing = self._told_lost = self._paused = False
        protocol.connection_made(self)

    # ---- the far end

    async def feed(self, data: bytes) -> None:
        """Hand bytes to the server as soon as it reads; after its end they are dropped."""
        await self._readable.wait()
        if data and not self._told_lost:
            self._protocol.data_received(data)

    async def read(self) -> bytes:
        """Return what the server has written since, nothing after its end.

        What was returned before counts as sent from now on.
        """
        self._sending = 0
        self._flow()
        while not self._written and not self._closing:
            self._changed.clear()
            await self._changed.wait()
        data = bytes(self._written)
        self._written.clear()
        self._sending = len(data)
        if not data:
            self._lost()
        return data

    def lose(self) -> None:
        """Tell the server that the client is gone. Idempotent."""
        self._written.clear()
        self._end()
        self._lost()

    async def broken(self) -> None:
        """Wait until the server breaks the connection off.

        Raises:
            ConnectionResetError: it did.
        """
        await self._aborted.wait()
        raise ConnectionResetError("the server broke the answer off")

    # ---- the server's end

    def write(self, data: bytes | bytearray | memoryview[int]) -> None:
        """Take bytes."""
        if self._closing:
            return
        self._written += data
        self._changed.set()
        self._flow()

    def can_write_eof(self) -> bool:
        """Say that only ``close`` ends it."""
        return False

    def is_closing(self) -> bool:
        """Tell whether nothing more is taken."""
        return self._closing

    def close(self) -> None:
        """End it once what was written is read."""
        self._end()
        if not self._written:
            self._lost()

    def abort(self) -> None:
        """End it at once; what was written is lost."""
        self._written.clear()
        self._end()
        self._aborted.set()
        self._lost()

    def pause_reading(self) -> None:
        """Let the client wait."""
        self._readable.clear()

    def resume_reading(self) -> None:
        """Go on."""
        self._readable.set()

    def is_reading(self) -> bool:
        """Tell whether bytes are taken."""
        return self._readable.is_set()

    def get_write_buffer_size(self) -> int:
        """Return the bytes that no client has taken."""
        return len(self._written) + self._sending

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return where writing goes on, and where it waits, in bytes."""
        return LOW_BYTES, HIGH_BYTES

    def _flow(self) -> None:
        size = self.get_write_buffer_size()
        if not self._paused and size > HIGH_BYTES:
            self._paused = True
            self._protocol.pause_writing()
        elif self._paused and size <= LOW_BYTES:
            self._paused = False
            self._protocol.resume_writing()

    def _end(self) -> None:
        self._closing = True
        self._changed.set()
        self._readable.set()

    def _lost(self) -> None:
        if not self._told_lost:
            self._told_lost = True
            self._loop.call_soon(self._protocol.connection_lost, None)


async def both_ways(
    transport: MemoryTransport, ask: Coroutine[Any, Any, None], answer: Coroutine[Any, Any, None]
) -> None:
    """Run both until the answer is over.

    Raises:
        ConnectionResetError: the server broke it off.
    """
    try:
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(ask), group.create_task(transport.broken())]
            await group.create_task(answer)
            for other in others:
                other.cancel()
    except BaseExceptionGroup as found:
        raise found.exceptions[0] from None
