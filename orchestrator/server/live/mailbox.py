"""A bounded queue between one session and one reader; overflow is an outcome, not a wait."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class MailboxFull(Exception):
    """The reader fell behind by more than the limit."""


class MailboxClosed(Exception):
    """Nothing will come any more.

    Attributes:
        reason: why, or None for an ordinary end.
    """

    def __init__(self, reason: BaseException | None = None) -> None:
        super().__init__(str(reason or "closed"))
        self.reason = reason


class Mailbox(Generic[T]):
    """First in, first out, at most ``limit`` items; one reader, any number of writers."""

    def __init__(self, limit: int) -> None:
        self._items: deque[T] = deque()
        self._limit = limit
        self._wake = asyncio.Event()
        self._end: Exception | None = None

    def put(self, item: T) -> None:
        """Append without waiting. Over the limit everything is dropped and ``get`` raises."""
        if self._end is not None:
            return
        if len(self._items) >= self._limit:
            self._items.clear()
            self._end = MailboxFull(f"more than {self._limit} events waiting")
        else:
            self._items.append(item)
        self._wake.set()

    def close(self, reason: BaseException | None = None) -> None:
        """End the queue behind what it holds; the first call counts."""
        if self._end is None:
            self._end = MailboxClosed(reason)
            self._wake.set()

    async def get(self) -> T:
        """Return the next item.

        Raises:
            MailboxFull: the reader was too slow; nothing is left.
            MailboxClosed: closed and empty.
        """
        while not self._items:
            if self._end is not None:
                raise self._end
            self._wake.clear()
            await self._wake.wait()
        return self._items.popleft()
