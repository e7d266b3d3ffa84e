"""The answer to a commit as its reader sees it: events in order, one end, nothing unbounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from ..errors import LiveMindError, Overloaded, Unavailable
from ..events import ResponseDone
from .events import LiveEvent

MAX_UNREAD_EVENTS = 16_384


class LiveAnswer(AsyncIterator[LiveEvent]):
    """Events from a commit on, up to and including its ``ResponseDone``, whose status tells.

    For one reader. An answer that nobody reads goes on; ``aclose`` ends it.

    Attributes:
        event_id: of the commit.
        committed_s: when the commit was handed to the socket, seconds of ``time.perf_counter``;
            None before.
    """

    def __init__(self, event_id: str, cancel: Callable[[], None], timeout_s: float) -> None:
        self.event_id = event_id
        self.committed_s: float | None = None
        self._cancel = cancel
        self._timeout_s = timeout_s
        self._events: asyncio.Queue[LiveEvent | Exception] = asyncio.Queue()
        self._over = False

    def put(self, item: LiveEvent | Exception) -> None:
        """Add an event, or what ended the answer; for the session that reads the connection."""
        unread = self._events.qsize()
        if unread < MAX_UNREAD_EVENTS:
            self._events.put_nowait(item)
        elif unread == MAX_UNREAD_EVENTS:
            message = f"more than {MAX_UNREAD_EVENTS} events were not read"
            self._events.put_nowait(Overloaded(message, code="slow_client"))
            self._cancel()

    async def __anext__(self) -> LiveEvent:
        """Return the next event.

        Raises:
            InvalidRequest, PayloadTooLarge, Overloaded: the commit was refused; the session has
                its text as before.
            Unavailable: the connection is gone, or nothing came for the client's ``timeout_s``.
        """
        if self._over:
            raise StopAsyncIteration
        item: LiveEvent | Exception
        try:
            async with asyncio.timeout(self._timeout_s):
                item = await self._events.get()
        except TimeoutError:
            self._cancel()
            message = f"the answer was silent for {self._timeout_s:g} s (timeout_s)"
            item = Unavailable(message, code="timeout")
        self._over = isinstance(item, ResponseDone | Exception)
        if isinstance(item, Exception):
            raise item
        return item

    async def aclose(self) -> None:
        """Cancel the answer unless it has ended, and wait until the server has freed it."""
        if not self._over:
            self._cancel()
            with suppress(LiveMindError):
                async for _ in self:
                    pass
