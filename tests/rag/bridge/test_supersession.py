"""Which retrieval goes on when another one of its session begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from livemind.rag.bridge.supersession import Superseded, Supersession

VirtualRun = Callable[[Coroutine[Any, Any, Any]], Any]


async def outcome(
    registry: Supersession, revision: int, *, session: str = "s", work_s: float = 1.0
) -> str:
    """Run a turn of ``work_s`` seconds with a deadline of ten and say how it ended."""
    try:
        async with registry.turn(session, revision, 10.0):
            await asyncio.sleep(work_s)
    except Superseded:
        return "superseded"
    except TimeoutError:
        return "deadline"
    return "done"


async def overlapping(registry: Supersession, *turns: tuple[str, int]) -> list[str]:
    """Start the turns one after the other, each before the one before has ended."""
    tasks = []
    for session, revision in turns:
        tasks.append(asyncio.ensure_future(outcome(registry, revision, session=session)))
        await asyncio.sleep(0.1)
    return await asyncio.gather(*tasks)


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        pytest.param([("s", 1), ("s", 2)], ["superseded", "done"], id="newer stops older"),
        pytest.param([("s", 2), ("s", 1)], ["done", "superseded"], id="older is refused"),
        pytest.param([("s", 1), ("s", 1)], ["done", "done"], id="equal run together"),
        pytest.param(
            [("s", 1), ("s", 1), ("s", 3)], ["superseded", "superseded", "done"], id="stops all"
        ),
        pytest.param([("s", 1), ("t", 2)], ["done", "done"], id="other session"),
    ],
)
def test_turn_overlapping_revisions_end_as_expected(
    virtual_run: VirtualRun, turns: list[tuple[str, int]], expected: list[str]
) -> None:
    assert virtual_run(overlapping(Supersession(), *turns)) == expected


def test_turn_longer_than_its_deadline_times_out(virtual_run: VirtualRun) -> None:
    assert virtual_run(outcome(Supersession(), 1, work_s=10.1)) == "deadline"


def test_turn_ended_long_ago_still_refuses_older_ones(virtual_run: VirtualRun) -> None:
    async def main() -> list[str]:
        registry = Supersession()
        return [await outcome(registry, revision) for revision in (3, 2, 3, 4)]

    assert virtual_run(main()) == ["done", "superseded", "done", "done"]


def test_turn_superseded_while_it_cleans_up_disturbs_nobody(virtual_run: VirtualRun) -> None:
    async def slow_to_stop(registry: Supersession) -> None:
        async with registry.turn("s", 1, 1.0):
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(5)

    async def main() -> str:
        registry = Supersession()
        stopping = asyncio.ensure_future(slow_to_stop(registry))
        await asyncio.sleep(2)
        newer = await outcome(registry, 2)
        with pytest.raises(Superseded):
            await stopping
        return newer

    assert virtual_run(main()) == "done"


def test_turn_cancelled_from_outside_stays_cancelled(virtual_run: VirtualRun) -> None:
    async def main() -> bool:
        registry = Supersession()
        task = asyncio.ensure_future(outcome(registry, 1))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled() and await outcome(registry, 2) == "done"

    assert virtual_run(main())


def test_sessions_beyond_the_limit_forget_the_quietest(virtual_run: VirtualRun) -> None:
    async def main() -> list[str]:
        registry = Supersession(max_sessions=2)
        for session in ("a", "b", "a", "c"):
            await outcome(registry, 5, session=session)
        assert len(registry) == 2
        return [await outcome(registry, 4, session=session) for session in ("a", "b")]

    assert virtual_run(main()) == ["superseded", "done"]
