"""The answer to a commit as its reader sees it: events in order, one end, nothing unbounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from ..errors import LiveMindError, Unavailable
from ..event_queue import EventQueue
from ..events import ResponseDone, ResponseTextDelta
from .events import LiveEvent

MAX_UNREAD_EVENTS = 16_384


class LiveAnswer(AsyncIterator[LiveEvent]):
    """Events from a commit on, up to and including its ``ResponseDone``, whose status tells.

    For one reader. An answer that nobody reads goes on; ``aclose`` ends it.

    Attributes:
        event_id: of the commit.
        text: that was committed.
        said: the text that came of it so far.
        frame, has_results: the commit as it is sent, and whether results of tools go with it.
        committed_s: when the commit was handed to the socket, seconds of ``time.perf_counter``;
            None before.
    """

    def __init__(
        self,
        event_id: str,
        text: str,
        cancel: Callable[[LiveAnswer], None],
        timeout_s: float,
        frame: str = "",
        *,
        has_results: bool = False,
    ) -> None:
        self.event_id = event_id
        self.text = text
        self.said = ""
        self.frame, self.has_results = frame, has_results
        self.committed_s: float | None = None
        self._cancel = cancel
        self._timeout_s = timeout_s
        self._events: EventQueue[LiveEvent] = EventQueue(MAX_UNREAD_EVENTS)
        self._ended = False

    def put(self, event: LiveEvent) -> None:
        """Add an event; for the session that reads the connection."""
        if isinstance(event, ResponseTextDelta):
            self.said += event.delta
        if not self._events.put(event):
            self._cancel(self)
            self._events.put_or_close(event)
        if isinstance(event, ResponseDone):
            self.end(None)

    def end(self, reason: LiveMindError | None) -> None:
        """Add no more events; ``reason`` is raised behind the last. The first call counts."""
        self._ended = True
        self._events.close(reason)

    async def __anext__(self) -> LiveEvent:
        """Return the next event.

        Raises:
            InvalidRequest, PayloadTooLarge: the commit was refused; the session has its text as
                before.
            Overloaded: likewise, or so many events were not read that the answer was cancelled.
            Unavailable: the connection is gone, or nothing came for the client's ``timeout_s``.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                event = await self._events.get()
        except TimeoutError:
            self._cancel(self)
            message = f"the answer was silent for {self._timeout_s:g} s (timeout_s)"
            raise Unavailable(message, code="timeout") from None
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Cancel the answer unless it has ended, and wait until the server has freed it."""
        if not self._ended:
            self._cancel(self)
            with suppress(LiveMindError):
                async for _ in self:
                    pass
