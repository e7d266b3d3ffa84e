"""Which of a session's retrievals runs: one at a time, then the newest of those asked meanwhile.

A retrieval that a newer word cancelled would never come back to somebody who types faster than it
takes. The final query alone stops a running one, unless that is for the same text and in time.
Pure: no await, no clock; ``engine.py`` performs, ``benchmarks/retrieval_early.py`` plays it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from .turn import Retrieve


class Turn(Enum):
    """What becomes of a query that was asked for."""

    START = auto()
    """It runs now; nothing else does."""
    REPLACE = auto()
    """It runs now; the running one is to be stopped."""
    WAIT = auto()
    """It runs when the running one has answered, unless a newer one is asked for until then."""
    JOIN = auto()
    """The running one answers it."""


@dataclass(slots=True)
class Retrievals:
    """The running and the waiting query of one session; ``until_s``: when the running one ends."""

    running: Retrieve | None = None
    waiting: Retrieve | None = None
    until_s: float = 0.0

    def ask(self, query: Retrieve, now_s: float) -> Turn:
        """Take a query in and say what is to be done."""
        running = self.running
        if running is not None and query.partial:
            self.waiting = query
            return Turn.WAIT
        self.waiting = None
        latest_s = now_s + query.deadline_s
        if running is not None and running.text == query.text and self.until_s <= latest_s:
            return Turn.JOIN
        self.running, self.until_s = query, latest_s
        return Turn.START if running is None else Turn.REPLACE

    def answered(self, now_s: float) -> Retrieve | None:
        """Note that the running one has answered; return the one that runs now."""
        self.running, self.waiting = self.waiting, None
        if self.running is not None:
            self.until_s = now_s + self.running.deadline_s
        return self.running

    def clear(self) -> None:
        """Forget both: nobody wants an answer."""
        self.running = self.waiting = None
