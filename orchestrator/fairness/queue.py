"""The requests in front of one expert, in an order that is fair between owners.

Deficit round robin (Shreedhar and Varghese, 1995): owners take turns, each with the same allowance
of tokens; what it does not use up for its next request it keeps as long as it waits. Who waits is
bounded by the answers that may be in progress.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from .asker import asker

QUANTUM_TOKENS = 1024
LARGEST_COST = 64 * QUANTUM_TOKENS


@dataclass(slots=True)
class _Line:
    deficit: int = 0
    waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)


class FairQueue:
    """``slots`` requests run at a time; an owner leaves an eighth of them, one at least, to others.

    For one event loop.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._most = max(1, slots - max(1, slots // 8))
        self._running: Counter[str] = Counter()
        self._lines: dict[str, _Line] = {}
        self._order: deque[str] = deque()
        self._allowed = False  # whose turn it is has had its allowance

    @asynccontextmanager
    async def slot(self, owner: str, tokens: int) -> AsyncIterator[None]:
        """Hold a slot inside the block; waits for it. ``tokens``: what the request costs."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = self._lines.get(owner)
        if line is None:
            line = self._lines[owner] = _Line()
            self._order.append(owner)
        line.waiting.append((min(max(tokens, 1), LARGEST_COST), granted))
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._leave(owner)
            raise
        try:
            yield
        finally:
            self._leave(owner)

    def _leave(self, owner: str) -> None:
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]
        self._grant()

    def _grant(self) -> None:
        """Give what is free to those whose turn it is."""
        passed = 0  # owners in a row that have as many slots as they may
        while passed < len(self._order) and self._running.total() < self._slots:
            owner = self._order[0]
            line = self._lines[owner]
            while line.waiting and line.waiting[0][1].cancelled():
                line.waiting.popleft()
            if not line.waiting:
                del self._lines[self._order.popleft()]
                self._allowed = False
            elif self._running[owner] >= self._most:
                self._next()
                passed += 1
            elif not self._allowed:
                line.deficit += QUANTUM_TOKENS
                self._allowed = True
            elif line.deficit < line.waiting[0][0]:
                self._next()
            else:
                cost, granted = line.waiting.popleft()
                line.deficit -= cost
                self._running[owner] += 1
                granted.set_result(None)
                passed = 0

    def _next(self) -> None:
        """Pass the turn on."""
        self._order.rotate(-1)
        self._allowed = False


class Places:
    """The queues of all experts that have a limit; without keys nobody waits here.

    Args:
        slots: requests that each of these experts runs at a time.
    """

    def __init__(self, slots: Mapping[str, int] | None = None) -> None:
        self._queues = {name: FairQueue(count) for name, count in (slots or {}).items()}

    @asynccontextmanager
    async def place(self, expert_id: str, tokens: int) -> AsyncIterator[None]:
        """Hold one of the expert's slots inside the block, in turn with those of other keys."""
        who, queue = asker.get(), self._queues.get(expert_id)
        if who is None or queue is None:
            yield
            return
        async with queue.slot(who.owner, tokens):
            yield
