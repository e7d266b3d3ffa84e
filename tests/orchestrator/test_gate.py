"""Speculation waits for foreground work, one slice at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from livemind.orchestrator.fairness.asker import Asker, asker
from livemind.orchestrator.gate import SpeculationGate

QUIET, BUSY, BETWEEN = 256, 64, 3


@pytest.fixture
def gate() -> SpeculationGate:
    return SpeculationGate(QUIET, BUSY, BETWEEN)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def take(gate: SpeculationGate, taken: list[int], group: str = "g") -> None:
    async with gate.slice(group) as tokens:
        taken.append(tokens)


async def test_slice_in_a_quiet_group_is_long(gate: SpeculationGate) -> None:
    async with gate.slice("g") as tokens:
        assert tokens == QUIET


async def test_slice_beside_a_stream_waits_for_its_tokens_and_is_short(
    gate: SpeculationGate,
) -> None:
    taken: list[int] = []
    with gate.foreground("g") as delivered:
        task = asyncio.ensure_future(take(gate, taken))
        delivered(BETWEEN - 1)
        await settle()
        assert taken == []
        delivered(1)
        await settle()
        assert taken == [BUSY]
        await task


async def test_next_slice_waits_for_as_many_tokens_again(gate: SpeculationGate) -> None:
    taken: list[int] = []
    with gate.foreground("g") as delivered:
        delivered(BETWEEN)
        await take(gate, taken)
        task = asyncio.ensure_future(take(gate, taken))
        delivered(BETWEEN - 1)
        await settle()
        assert taken == [BUSY]
        delivered(1)
        await task


async def test_waiting_slice_starts_when_the_foreground_ends(gate: SpeculationGate) -> None:
    taken: list[int] = []
    with gate.foreground("g"):
        task = asyncio.ensure_future(take(gate, taken))
        await settle()
        assert taken == []
    await task
    assert taken == [QUIET]


async def test_foreground_of_another_group_is_not_waited_for(gate: SpeculationGate) -> None:
    taken: list[int] = []
    with gate.foreground("other"):
        await take(gate, taken)
    assert taken == [QUIET]


async def test_slices_run_one_at_a_time(gate: SpeculationGate) -> None:
    taken: list[int] = []
    async with gate.slice("g"):
        task = asyncio.ensure_future(take(gate, taken))
        await settle()
        assert taken == []
    await task
    assert taken == [QUIET]


async def test_slices_of_two_groups_run_together(gate: SpeculationGate) -> None:
    taken: list[int] = []
    async with gate.slice("g"):
        await take(gate, taken, "other")
    assert taken == [QUIET]


@pytest.mark.parametrize("where", ["waiting for tokens", "inside"])
async def test_cancelled_slice_gives_its_place_back(gate: SpeculationGate, where: str) -> None:
    async def hold() -> None:
        async with gate.slice("g"):
            await asyncio.Event().wait()

    taken: list[int] = []
    if where == "inside":
        task = asyncio.ensure_future(hold())
        await settle()
        task.cancel()
    else:
        with gate.foreground("g"):
            task = asyncio.ensure_future(hold())
            await settle()
            task.cancel()
            await settle()
    await asyncio.wait([task])
    await asyncio.wait_for(take(gate, taken), 1)
    assert taken == [QUIET]


async def test_busy_only_while_foreground_work_runs(gate: SpeculationGate) -> None:
    seen = [gate.busy("g")]
    with gate.foreground("g"):
        with gate.foreground("g"):
            pass
        seen.append(gate.busy("g"))
    seen.append(gate.busy("g"))
    assert seen == [False, True, False]


async def test_failed_foreground_work_is_not_counted_any_more(gate: SpeculationGate) -> None:
    with pytest.raises(ValueError, match="boom"), gate.foreground("g"):
        raise ValueError("boom")
    assert not gate.busy("g")


async def test_guest_is_asked_to_leave_before_foreground_work_begins(
    gate: SpeculationGate,
) -> None:
    asked: list[bool] = []
    with gate.guest("g", lambda: asked.append(gate.busy("g"))), gate.foreground("g"):
        assert asked == [True]


async def test_guest_that_left_is_not_asked(gate: SpeculationGate) -> None:
    asked: list[int] = []
    with gate.guest("g", lambda: asked.append(1)):
        pass
    with gate.foreground("g"):
        assert asked == []


async def test_guest_of_another_group_is_not_asked(gate: SpeculationGate) -> None:
    asked: list[int] = []
    with gate.guest("g", lambda: asked.append(1)), gate.foreground("other"):
        assert asked == []


async def test_guest_is_asked_to_leave_once(gate: SpeculationGate) -> None:
    asked: list[int] = []
    with gate.guest("g", lambda: asked.append(1)), gate.foreground("g"), gate.foreground("g"):
        assert asked == [1]


async def test_slice_beside_several_streams_waits_for_the_tokens_of_each(
    gate: SpeculationGate,
) -> None:
    taken: list[int] = []
    with gate.foreground("g") as one, gate.foreground("g") as other:
        task = asyncio.ensure_future(take(gate, taken))
        one(BETWEEN)
        other(BETWEEN - 1)
        await settle()
        assert taken == []
        other(1)
        await task
    assert taken == [BUSY]


async def test_tokens_of_an_earlier_stream_admit_no_slice_before_a_new_one(
    gate: SpeculationGate,
) -> None:
    taken: list[int] = []
    with gate.foreground("g") as delivered:
        delivered(100 * BETWEEN)
    with gate.foreground("g"):
        task = asyncio.ensure_future(take(gate, taken))
        await settle()
        assert taken == []
    await task


async def test_guest_that_raises_keeps_neither_foreground_work_nor_later_guests_out(
    gate: SpeculationGate, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def raises() -> None:
        raise RuntimeError("does not leave")

    with gate.guest("g", raises), gate.guest("h", lambda: asked.append("h")):
        with gate.foreground("g", "h"):
            assert gate.busy("g")
        assert asked == ["h"]
        assert caplog.messages == ["a guest did not leave: RuntimeError"]
    assert not gate.busy("g", "h")
    taken: list[int] = []
    await asyncio.wait_for(take(gate, taken), 5)
    assert taken == [QUIET]


async def test_no_slice_starts_while_foreground_work_waits_to_begin(gate: SpeculationGate) -> None:
    taken: list[int] = []
    with gate.foreground("g") as delivered:
        delivered(100 * BETWEEN)
        with gate.kept_out("g"):
            task = asyncio.ensure_future(take(gate, taken))
            delivered(100 * BETWEEN)
            await settle()
            assert taken == []
        await settle()
        assert taken == [BUSY]
        await task


def test_slices_go_round_the_keys_however_many_sessions_each_has(virtual_run: Any) -> None:
    async def main() -> None:
        gate, slices = SpeculationGate(QUIET, BUSY, BETWEEN), Counter[str]()

        async def session(owner: str) -> None:
            asker.set(Asker(owner, owner))
            while True:
                async with gate.slice("g"):
                    await asyncio.sleep(0.1)
                    slices[owner] += 1

        tasks = [asyncio.create_task(session("many")) for _ in range(19)]
        tasks.append(asyncio.create_task(session("one")))
        await asyncio.sleep(100)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert slices.total() > 900
        # a key with one session asks again only when its slice is over, and so misses its next turn
        assert slices["one"] > 0.15 * slices["many"]

    virtual_run(main())
