"""The requests in front of one expert, in an order that is fair between owners.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): a request is worth its tokens and begins, on
a clock that runs with what is served, where its owner's last one ends, or now if that is over. The
earliest begins first. An owner that floods has its later requests far ahead on that clock; one that
asks now and then is always at its hand. How many wait is bounded by whoever lets them in.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, deque
from contextlib import AbstractAsyncContextManager
from itertools import count

LARGEST_COST = 65_536
NOBODY = ""
"""The owner of what nobody in particular asks."""


class FairQueue:
    """``slots`` requests run at a time; an owner leaves an eighth of them, one at least, to others.

    For one event loop. A request costs O(log owners).
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._most = max(1, slots - max(1, slots // 8))
        self._running: Counter[str] = Counter()
        self._held = 0
        self._clock = 0
        self._ends: dict[str, int] = {}
        self._lines: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}
        self._first: list[tuple[int, int, str]] = []  # a heap: of each line that may go on
        self._order = count()

    def slot(self, owner: str, tokens: int) -> AbstractAsyncContextManager[None]:
        """Hold a slot inside the block; waits for it. ``tokens``: what the request costs.

        ``NOBODY`` may have all slots.
        """
        return _Slot(self, owner, min(max(tokens, 1), LARGEST_COST))

    async def enter(self, owner: str, cost: int) -> None:
        """Wait for a slot; ``leave`` must follow unless this raises."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        begins = max(self._clock, self._ends.get(owner, 0))
        self._ends[owner] = begins + cost
        line = self._lines.setdefault(owner, deque())
        line.append((begins, granted))
        if len(line) == 1 and self._may_run(owner):
            self._offer(owner)
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.leave(owner)
            elif owner in self._ends:
                self._ends[owner] -= cost
            raise

    def _may_run(self, owner: str) -> bool:
        return owner == NOBODY or self._running[owner] < self._most

    def _offer(self, owner: str) -> None:
        heapq.heappush(self._first, (self._lines[owner][0][0], next(self._order), owner))

    def leave(self, owner: str) -> None:
        """Give a slot back."""
        was_full = not self._may_run(owner)
        self._held -= 1
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]
        if was_full and owner in self._lines:
            self._offer(owner)
        self._grant()
        if not self._held and not self._lines:
            self._clock = 0
            self._ends.clear()

    def _grant(self) -> None:
        """Give what is free to those whose turn it is."""
        while self._first and self._held < self._slots:
            _, _, owner = heapq.heappop(self._first)
            line = self._lines[owner]
            while line and line[0][1].cancelled():
                line.popleft()
            if line:
                begins, granted = line.popleft()
                self._clock = max(self._clock, begins)
                self._held += 1
                self._running[owner] += 1
                granted.set_result(None)
            if not line:
                del self._lines[owner]
            elif self._may_run(owner):
                self._offer(owner)


class _Slot(AbstractAsyncContextManager[None]):
    """A request's slot: every request has one, and a generator would cost more than the queue."""

    __slots__ = ("_cost", "_owner", "_queue")

    def __init__(self, queue: FairQueue, owner: str, cost: int) -> None:
        self._queue, self._owner, self._cost = queue, owner, cost

    async def __aenter__(self) -> None:
        await self._queue.enter(self._owner, self._cost)

    async def __aexit__(self, *exc: object) -> None:
        self._queue.leave(self._owner)
