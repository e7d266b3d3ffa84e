"""How late the event loop of this process is, and how much of that is its own computing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from time import perf_counter, thread_time

TICK_S = 0.02
SHORT_TICK_S = 0.002


@dataclass(slots=True)
class Ticks:
    """Per tick: how late it came, and how long the loop's thread computed since the one before."""

    late_ms: list[float] = field(default_factory=list)
    busy_ms: list[float] = field(default_factory=list)


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect no garbage inside: in the middle of an answer it would look like the server's delay.

    What was made before is not looked at again, if the block itself calls ``gc.collect``.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@asynccontextmanager
async def watch_loop(ticks: Ticks, tick_s: float = TICK_S) -> AsyncGenerator[None, None]:
    """Fill ``ticks`` while the block runs, one every ``tick_s`` seconds.

    A late tick has waited for the loop, for another thread's interpreter lock or for the machine;
    what the loop computed in one go is at most ``busy_ms``.
    """

    async def tick() -> None:
        while True:
            due_s, before_s = perf_counter() + tick_s, thread_time()
            await asyncio.sleep(tick_s)
            ticks.late_ms.append((perf_counter() - due_s) * 1000.0)
            ticks.busy_ms.append((thread_time() - before_s) * 1000.0)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
