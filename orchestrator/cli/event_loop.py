"""The event loop that serves: uvloop where there is one, with a clock that is worth reading.

uvloop's own clock stands still while callbacks run and counts whole milliseconds; every lead and
time to first token that a turn reports is a difference of two readings.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, like ``asyncio.run``."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a uvloop with a clock of full resolution, or asyncio's own loop without uvloop."""
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop()

    class PreciseLoop(uvloop.Loop):  # type: ignore[misc, unused-ignore]
        """What is asked for ``loop.time()`` + x happens x later, as uvloop computes it."""

        def time(self) -> float:
            return time.monotonic()

    loop: asyncio.AbstractEventLoop = PreciseLoop()
    return loop
