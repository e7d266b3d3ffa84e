"""What a request costs the event loop's thread, and how much sooner a deadline has to end for it.

Requests that come together are taken in one after another and their answers written one after
another: the last of fifty with the same deadline begins and ends some twenty requests' work late.
Each therefore gives up as much of its time as the loop needs for those that run with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

WINDOW = 32  # requests between two measurements
FIRST_S = 0.001  # until the first
MOST_S = 0.003  # more is other work of the loop, which a deadline cannot make room for
CONTENTION = 1.5  # wall-clock seconds per second of processor time beside the encoder's thread
MOST_OF_DEADLINE = 0.5


class LoopCost:
    """Measured from the processor time of the thread that calls it; belongs to one event loop."""

    def __init__(self, thread_s: Callable[[], float] = time.thread_time) -> None:
        """``thread_s``: processor seconds that the calling thread has used."""
        self._thread_s = thread_s
        self._since_s: float | None = None
        self._requests = 0
        self.request_s = FIRST_S

    def answered(self) -> None:
        """Count a request."""
        if self._since_s is None:
            self._since_s = self._thread_s()
            return
        self._requests += 1
        if self._requests == WINDOW:
            now_s = self._thread_s()
            self.request_s = min((now_s - self._since_s) / WINDOW, MOST_S)
            self._since_s, self._requests = now_s, 0

    def time_left(self, deadline_s: float, running: int) -> float:
        """Return how many seconds of a deadline a request may use beside ``running`` ones."""
        reserve_s = running * self.request_s * CONTENTION
        return deadline_s - min(reserve_s, MOST_OF_DEADLINE * deadline_s)
