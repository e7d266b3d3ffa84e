"""The event loop is kept awake for as long as it is wanted, and no longer."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from livemind.backends.fake import FakeExpert
from livemind.orchestrator.server.busy_polling import BusyPolling

from .conftest import eventually


async def turns_of_the_loop(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_busy_polling_asks_in_every_turn_until_it_is_not_wanted() -> None:
    asked: list[bool] = []

    def wanted() -> bool:
        asked.append(len(asked) < 3)
        return asked[-1]

    polling = BusyPolling(wanted)
    polling.begin()
    polling.begin()
    await turns_of_the_loop(10)
    assert asked == [True, True, True, False]


async def test_busy_polling_begins_anew() -> None:
    asked = itertools.count()
    polling = BusyPolling(lambda: next(asked) % 2 == 0)
    for _ in range(2):
        polling.begin()
        await turns_of_the_loop(5)
    assert next(asked) == 4


@pytest.mark.parametrize("busy_polling", [True, False])
async def test_server_polls_while_a_request_is_answered_if_told_to(
    serve: Any, busy_polling: bool
) -> None:
    expert = FakeExpert("fake", token_s=0.05)
    async with serve(expert, busy_polling=busy_polling) as doors:
        asked = asyncio.create_task(doors.chat("one two three"))
        await eventually(lambda: expert.running)
        polling = doors.state.in_flight.polling
        assert (polling is not None and polling.running) is busy_polling
        assert (await asked)[0] == 200
        await doors.quiet()
        await turns_of_the_loop(3)
        assert polling is None or not polling.running
