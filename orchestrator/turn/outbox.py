"""The bounded way out of a session: events in order, for one reader.

Owns the queue and its limit. Status events (routes, documents, prefill) are dropped while the
reader is far behind; text and terminal events never are: over the limit the turn has to end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from ..events import (
    Event,
    ExpertUpdated,
    PrefillUpdated,
    ResponseTextDelta,
    RetrievalUpdated,
    RouteUpdated,
)

STATUS_EVENTS = (RouteUpdated, RetrievalUpdated, PrefillUpdated, ExpertUpdated)
MAX_STATUS_EVENTS = 64


class Outbox:
    """Queue of events; ``put`` from anywhere on the loop, ``read`` by one task at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: deque[Event] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, event: Event) -> bool:
        """Queue an event; return False if it is text and the reader is ``limit`` events behind."""
        if isinstance(event, STATUS_EVENTS) and len(self._events) >= MAX_STATUS_EVENTS:
            return True
        if isinstance(event, ResponseTextDelta) and len(self._events) >= self._limit:
            return False
        self._events.append(event)
        self._changed.set()
        return True

    @property
    def full(self) -> bool:
        """Whether the reader is ``limit`` events behind."""
        return len(self._events) >= self._limit

    def close(self) -> None:
        """Let the reader end once it has read what is queued."""
        self._closed = True
        self._changed.set()

    async def get(self) -> Event | None:
        """Return the next event, None once the outbox is closed and empty."""
        while not self._events:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._events.popleft()

    async def read(self) -> AsyncGenerator[Event, None]:
        """Yield events in order until the outbox is closed and empty."""
        while (event := await self.get()) is not None:
            yield event
