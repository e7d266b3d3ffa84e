"""Which of a session's retrievals run: two at most, then the newest of those asked meanwhile.

A retrieval that a newer word cancelled would never come back to somebody who types faster than it
takes, and with one at a time it comes back for a text of some words ago: two in flight are one for
each word up to 667 ms at three words a second. The final query alone stops running ones, unless one
is for the same text and in time. Pure: no await, no clock; ``engine.py`` performs,
``benchmarks/retrieval/early.py`` plays it.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import structs

from .values import Retrieve

SLOTS = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done about a query.

    Attributes:
        start: the slot in which it runs now; None = it waits, or a running one answers it.
        stop: slots whose retrieval is to be stopped first.
    """

    start: int | None = None
    stop: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Running:
    query: Retrieve
    until_s: float


class Retrievals:
    """The running and the waiting queries of one session."""

    def __init__(self) -> None:
        self._running: dict[int, _Running] = {}
        self._waiting: Retrieve | None = None

    def ask(self, query: Retrieve, now_s: float) -> Verdict:
        """Take a query in and say what is to be done."""
        running, self._waiting = self._running, None
        if query.partial:
            free = [slot for slot in range(SLOTS) if slot not in running]
            if not free:
                self._waiting = query
                return Verdict()
            self._start(free[0], query, now_s)
            return Verdict(free[0])
        in_time_s = now_s + query.deadline_s
        joined = {
            slot: one
            for slot, one in running.items()
            if one.query.text == query.text and one.until_s <= in_time_s
        }
        stop = tuple(slot for slot in running if slot not in joined)
        # its answer is this query's from now on: as that of the older one it would come too late
        self._running = {slot: _Running(query, in_time_s) for slot in joined}
        if joined:
            return Verdict(None, stop)
        self._start(0, query, now_s)
        return Verdict(0, stop)

    def asked_in(self, slot: int) -> Retrieve | None:
        """Return the query that a slot's retrieval answers by now; None = nobody's any more."""
        running = self._running.get(slot)
        return None if running is None else running.query

    def unanswered(self, slot: int, ran: Retrieve, now_s: float) -> Retrieve | None:
        """Return what is to run in a slot whose partial query was joined and found too little.

        That is the final query, with the time that is left to it; None = nobody's, or too late.
        """
        running = self._running.get(slot)
        if running is None or running.query.partial or not ran.partial:
            return None
        left_s = running.until_s - now_s
        return None if left_s <= 0 else structs.replace(running.query, deadline_s=left_s)

    def answered(self, slot: int, now_s: float) -> Retrieve | None:
        """Note that a slot's retrieval has answered; return the one that runs there now."""
        query, self._waiting = self._waiting, None
        self._running.pop(slot, None)
        if query is not None:
            self._start(slot, query, now_s)
        return query

    def clear(self) -> None:
        """Forget all: nobody wants an answer."""
        self._running, self._waiting = {}, None

    def _start(self, slot: int, query: Retrieve, now_s: float) -> None:
        self._running[slot] = _Running(query, now_s + query.deadline_s)
