"""The bounded queue between whoever makes events and one reader, who may be slow.

Owns what happens when the reader is behind. Status events (routes, documents, prefill, experts) are
dropped while it is far behind. Beyond the limit text and answers to frames are refused, so that
their maker ends; those that open and end drafts, turns and items are always taken.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar

from .errors import LiveMindError, Overloaded
from .events import (
    DraftAdopted,
    DraftCreated,
    DraftDiscarded,
    Event,
    ExpertUpdated,
    PrefillUpdated,
    ResponseCreated,
    ResponseDone,
    ResponseTextDone,
    RetrievalUpdated,
    RouteUpdated,
)
from .item_events import (
    ConversationTrimmed,
    InputIgnored,
    ItemAdded,
    ItemDeleted,
    ItemDone,
    ItemTruncated,
)

STATUS_EVENTS = (RouteUpdated, RetrievalUpdated, PrefillUpdated, ExpertUpdated, InputIgnored)
NEEDED_EVENTS = (
    DraftCreated,
    DraftAdopted,
    DraftDiscarded,
    ResponseCreated,
    ResponseTextDone,
    ResponseDone,
    ItemAdded,
    ItemDone,
    ItemTruncated,
    ItemDeleted,
    ConversationTrimmed,
)
MAX_STATUS_EVENTS = 64
MAX_BYTES = 8_388_608
STEPS_TO_THE_WIRE = 2
"""Of the event loop, from a session's queue to the socket: out of the session, into the socket."""

T = TypeVar("T")


class EventQueue(Generic[T]):
    """First in, first out; ``put`` from anywhere on the loop, read by one task at a time.

    Args:
        limit: so many items may wait.
        max_bytes: so large may the texts in them be, all together.
    """

    def __init__(self, limit: int, max_bytes: int = MAX_BYTES) -> None:
        self._limit = limit
        self._max_bytes = max_bytes
        self._bytes = 0
        self._items: deque[T] = deque()
        self._changed = asyncio.Event()
        self._closed = False
        self._reason: LiveMindError | None = None

    def put(self, item: T) -> bool:
        """Queue an item; return False if it is refused: the reader is a limit behind.

        A closed queue drops it.
        """
        behind = len(self._items)
        if self._closed or (isinstance(item, STATUS_EVENTS) and behind >= MAX_STATUS_EVENTS):
            return True
        if self.full and not isinstance(item, NEEDED_EVENTS):
            return False
        self._bytes += _bytes_of(item)
        self._items.append(item)
        self._changed.set()
        return True

    def put_or_close(self, item: T) -> None:
        """Queue an item; if it is refused, drop what waits and close with Overloaded."""
        if not self.put(item):
            what = f"{self._limit} events or {self._max_bytes} bytes"
            message = f"the client reads too slowly: more than {what} waiting"
            self._items.clear()
            self._bytes = 0
            self.close(Overloaded(message, code="slow_client"))

    @property
    def full(self) -> bool:
        """Whether the reader is a limit behind."""
        return len(self._items) >= self._limit or self._bytes >= self._max_bytes

    def refuse_unread(self) -> None:
        """Refuse to do more for a reader that is a limit behind.

        Raises:
            Overloaded: it is.
        """
        if self.full:
            raise Overloaded("the client reads too slowly", code="slow_client", retry_after_s=1.0)

    def close(self, reason: LiveMindError | None = None) -> None:
        """Let the reader end once it has read what is queued; the first call counts."""
        if not self._closed:
            self._closed, self._reason = True, reason
            self._changed.set()

    async def get(self) -> T | None:
        """Return the next item, None once the queue is closed and empty.

        Raises:
            LiveMindError: instead of None, where the queue was closed with a reason.
        """
        while not self._items:
            if self._reason is not None:
                raise self._reason
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        item = self._items.popleft()
        self._bytes -= _bytes_of(item)
        return item

    async def read(self) -> AsyncGenerator[T, None]:
        """Yield items in order until the queue is closed and empty; raises as ``get``."""
        while (item := await self.get()) is not None:
            yield item


Outbox = EventQueue[Event]
"""The way out of a session."""


async def when_out() -> None:
    """Return once a reader that waits has handed on to the socket what was put just now."""
    for _ in range(STEPS_TO_THE_WIRE):
        await asyncio.sleep(0)


def call_when_out(then: Callable[[], None], steps: int = STEPS_TO_THE_WIRE) -> None:
    """Call ``then`` when ``when_out`` would return."""
    call_soon = asyncio.get_running_loop().call_soon
    if steps > 1:
        call_soon(call_when_out, then, steps - 1)
    else:
        call_soon(then)


def _bytes_of(item: object) -> int:
    """Return how large the text of an item is at most, 0 for one that has none."""
    text = getattr(item, "delta", None) or getattr(item, "text", None)
    if not isinstance(text, str):
        return 0
    return len(text) if text.isascii() else 4 * len(text)
