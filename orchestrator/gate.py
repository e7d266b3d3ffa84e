"""Speculation is a guest: it runs where no foreground work would notice, else it leaves.

Owns the count of foreground work per compute group and the one place in which a speculative slice
may run. Decides nothing about what to speculate on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from .fairness.asker import asker
from .fairness.queue import NOBODY, FairQueue

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Group:
    foreground: int = 0
    kept_out: int = 0
    tokens_since_slice: int = 0
    place: FairQueue = field(default_factory=lambda: FairQueue(1))
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    guests: set[Callable[[], object]] = field(default_factory=set)


class SpeculationGate:
    """Admits speculative work per compute group. For one event loop; not thread-safe.

    Args:
        slice_tokens: prompt tokens that one slice may compute while the group is quiet.
        busy_slice_tokens: the same while a foreground stream runs; it delays one of its tokens.
        tokens_between_slices: tokens of each foreground stream that must pass between two slices;
            above 20 the 95th percentile of inter-token times is out of a slice's reach.
    """

    def __init__(
        self, slice_tokens: int, busy_slice_tokens: int, tokens_between_slices: int
    ) -> None:
        self._slice_tokens = slice_tokens
        self._busy_slice_tokens = busy_slice_tokens
        self._tokens_between_slices = tokens_between_slices
        self._groups: defaultdict[str, _Group] = defaultdict(_Group)

    def busy(self, *groups: str) -> bool:
        """Return whether foreground work runs or waits in one of the groups."""
        return any(self._groups[group].foreground > 0 for group in groups)

    @contextmanager
    def foreground(self, *groups: str) -> Iterator[Callable[[int], None]]:
        """Mark foreground work; every guest of these groups is asked to leave first.

        Yields:
            A function to call with the number of tokens each time the stream delivers some.
        """
        states = [self._groups[group] for group in groups]

        def delivered(tokens: int) -> None:
            for state in states:
                state.tokens_since_slice += tokens
                state.changed.set()

        for state in states:
            state.foreground += 1
            state.tokens_since_slice = 0
        try:
            for state in states:
                while state.guests:
                    _ask_to_leave(state.guests.pop())
            yield delivered
        finally:
            for state in states:
                state.foreground -= 1
                state.changed.set()

    @contextmanager
    def kept_out(self, *groups: str) -> Iterator[None]:
        """Mark foreground work that waits to begin: no slice starts in these groups meanwhile."""
        states = [self._groups[group] for group in groups]
        for state in states:
            state.kept_out += 1
        try:
            yield
        finally:
            for state in states:
                state.kept_out -= 1
                state.changed.set()

    @contextmanager
    def guest(self, group: str, yield_now: Callable[[], object]) -> Iterator[None]:
        """Run something longer than a slice while the group is quiet.

        ``yield_now`` is called, once, as soon as foreground work arrives; it must not block. What
        it raises is logged: it keeps nobody who is waited for.
        """
        state = self._groups[group]
        state.guests.add(yield_now)
        try:
            yield
        finally:
            state.guests.discard(yield_now)

    @asynccontextmanager
    async def slice(self, group: str) -> AsyncIterator[int]:
        """Wait for the group's one guest place; yield how many tokens may be computed in it.

        Keys have it in turn, however many sessions each has. Waits as long as foreground tokens are
        due first. Cancellable at any point.
        """
        state, who = self._groups[group], asker.get()
        owner = NOBODY if who is None else who.owner
        async with state.place.slot(owner, self._slice_tokens):
            while (
                state.kept_out
                or state.tokens_since_slice < self._tokens_between_slices * state.foreground
            ):
                state.changed.clear()
                await state.changed.wait()
            state.tokens_since_slice = 0
            yield self._busy_slice_tokens if state.foreground else self._slice_tokens


def _ask_to_leave(yield_now: Callable[[], object]) -> None:
    try:
        yield_now()
    except Exception as error:
        log.error("a guest did not leave: %s", type(error).__name__)
