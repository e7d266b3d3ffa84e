"""The threads that read a retrieval's few rows from disk, and how long they will be busy.

Owns the estimate by which a search that the disk cannot answer in time is answered without it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

NEWEST_COUNTS = 0.2  # share of the newest read in the mean


class ReadPool:
    """Runs reads for the tasks of event loops. Thread-safe."""

    def __init__(self, threads: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Start no thread yet; ``clock`` returns seconds."""
        self._threads = threads
        self._clock = clock
        self._pool = ThreadPoolExecutor(threads, "livemind-read")
        self._guard = threading.Lock()
        self._unfinished = 0
        self._read_s = 0.0
        self._began_s: dict[object, float] = {}  # of the reads at work, newest last

    def wait_s(self, expected: int = 0) -> float:
        """Return in how many seconds a read that came now would have ended.

        0 when there is no other, however slow the last ones were: only so is it noticed that the
        disk has recovered. A read at work tells how slow the disk is only when every thread has one
        as old: a single one that hangs leaves the others to answer.

        Args:
            expected: reads that will come before it, those included that are there already.
        """
        with self._guard:
            ahead = max(self._unfinished, expected)
            queued = max(ahead - self._threads + 1, 0)
            read_s = self._read_s
            if len(self._began_s) == self._threads:
                newest_began_s = next(reversed(self._began_s.values()))
                read_s = max(read_s, self._clock() - newest_began_s)
            return read_s * (1.0 + queued / self._threads) if ahead else 0.0

    async def run(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns; dropped if the caller is cancelled before it began."""
        with self._guard:
            self._unfinished += 1
        try:
            reading = self._pool.submit(self._timed, work)
        except RuntimeError:  # shut down
            self._left()
            raise
        reading.add_done_callback(self._left)
        return await asyncio.wrap_future(reading)

    def shutdown(self) -> None:
        """Drop what waits, let the others end; blocks."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _timed(self, work: Callable[[], T]) -> T:
        mine = object()
        with self._guard:
            self._began_s[mine] = self._clock()
        try:
            return work()
        finally:
            with self._guard:
                took_s = self._clock() - self._began_s.pop(mine)
                self._read_s += NEWEST_COUNTS * (took_s - self._read_s)

    def _left(self, _: Future[T] | None = None) -> None:
        with self._guard:
            self._unfinished -= 1
