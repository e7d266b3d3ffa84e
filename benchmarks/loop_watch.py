"""How late the event loop of this process is: what it adds to every time that is taken in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import perf_counter

TICK_S = 0.02


@asynccontextmanager
async def watch_loop(late_ms: list[float]) -> AsyncGenerator[None, None]:
    """Append, every ``TICK_S`` seconds, by how much the loop missed the tick, in milliseconds."""

    async def tick() -> None:
        while True:
            due_s = perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            late_ms.append((perf_counter() - due_s) * 1000.0)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
