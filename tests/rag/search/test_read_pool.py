"""How long a read waits for the disk, and which reads are not begun."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from livemind.rag.search.read_pool import NEWEST_COUNTS, ReadPool


class Disk:
    """A clock that reads move on, and a gate that holds them."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.gate = threading.Event()
        self.gate.set()
        self.begun = 0
        self.reached = threading.Event()

    def clock(self) -> float:
        return self.now_s

    def read(self) -> str:
        self.begun += 1
        self.reached.set()
        self.gate.wait()
        self.now_s += 0.2
        return "text"


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def pool(disk: Disk) -> Iterator[ReadPool]:
    pool = ReadPool(1, disk.clock)
    yield pool
    disk.gate.set()
    pool.shutdown()


async def test_read_pool_only_read_is_begun_at_once_however_slow_the_last_was(
    pool: ReadPool, disk: Disk
) -> None:
    assert await pool.run(disk.read) == "text"
    assert pool.wait_s() == 0.0


async def test_read_pool_wait_grows_with_the_reads_ahead(pool: ReadPool, disk: Disk) -> None:
    await pool.run(disk.read)
    mean_s = NEWEST_COUNTS * 0.2
    disk.gate.clear()
    reads = [asyncio.ensure_future(pool.run(disk.read)) for _ in range(2)]
    await asyncio.sleep(0)
    assert pool.wait_s() == pytest.approx(mean_s * (1 + 2))
    assert pool.wait_s(expected=5) == pytest.approx(mean_s * (1 + 5))
    disk.gate.set()
    await asyncio.gather(*reads)
    assert pool.wait_s() == 0.0


async def test_read_pool_read_of_a_cancelled_caller_is_neither_begun_nor_counted(
    pool: ReadPool, disk: Disk
) -> None:
    disk.gate.clear()
    first = asyncio.ensure_future(pool.run(disk.read))
    second = asyncio.ensure_future(pool.run(disk.read))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    disk.gate.set()
    await first
    assert disk.begun == 1
    assert pool.wait_s() == 0.0


async def test_read_pool_read_that_fails_is_not_counted_further(pool: ReadPool) -> None:
    def fail() -> None:
        raise OSError("no such sector")

    with pytest.raises(OSError, match="sector"):
        await pool.run(fail)
    assert pool.wait_s() == 0.0


async def test_read_pool_read_beside_another_takes_as_long_as_the_last(disk: Disk) -> None:
    pool = ReadPool(4, disk.clock)
    try:
        await pool.run(disk.read)
        assert pool.wait_s(expected=1) == pytest.approx(NEWEST_COUNTS * 0.2)
        assert pool.wait_s(expected=7) == pytest.approx(NEWEST_COUNTS * 0.2 * 2)
    finally:
        pool.shutdown()


async def test_read_pool_read_still_at_work_tells_how_slow_the_disk_is(
    pool: ReadPool, disk: Disk
) -> None:
    disk.gate.clear()
    reading = asyncio.ensure_future(pool.run(disk.read))
    await asyncio.to_thread(disk.reached.wait)
    disk.now_s += 0.15
    assert pool.wait_s() == pytest.approx(0.15 * 2)
    disk.gate.set()
    await reading


async def hold(pool: ReadPool, disk: Disk) -> asyncio.Task[str]:
    """Begin a read that ends when the gate opens."""
    disk.reached.clear()
    reading = asyncio.create_task(pool.run(disk.read))
    await asyncio.to_thread(disk.reached.wait)
    return reading


async def hanging(disk: Disk) -> tuple[ReadPool, asyncio.Task[str]]:
    """Return a pool of two threads, one of which has been in a read for an hour."""
    pool = ReadPool(2, disk.clock)
    disk.gate.clear()
    hung = await hold(pool, disk)
    disk.now_s += 3600.0
    return pool, hung


async def test_read_pool_read_that_hangs_beside_an_idle_thread_is_not_waited_for(
    disk: Disk,
) -> None:
    pool, hung = await hanging(disk)
    assert pool.wait_s(expected=1) == 0.0
    disk.gate.set()
    await hung
    pool.shutdown()


async def test_read_pool_hung_read_beside_a_newer_one_leaves_the_age_of_that_one(
    disk: Disk,
) -> None:
    pool, hung = await hanging(disk)
    newer = await hold(pool, disk)
    disk.now_s += 0.1
    assert pool.wait_s() == pytest.approx(0.1 * (1 + 1 / 2))
    disk.gate.set()
    await asyncio.gather(hung, newer)
    pool.shutdown()
