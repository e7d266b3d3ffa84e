"""The bounded queue between a session and a reader beside it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from livemind.orchestrator.errors import NotFound, Overloaded
from livemind.orchestrator.event_queue import EventQueue


async def test_queue_gives_items_in_order_then_the_first_reason() -> None:
    queue: EventQueue[int] = EventQueue(3)
    queue.put(1)
    queue.put(2)
    reason = NotFound("over")
    queue.close(reason)
    queue.close()
    queue.put(3)
    assert [await queue.get(), await queue.get()] == [1, 2]
    for _ in range(2):
        with pytest.raises(NotFound) as closed:
            await queue.get()
        assert closed.value is reason


async def test_queue_over_its_limit_drops_everything_and_says_so() -> None:
    queue: EventQueue[int] = EventQueue(2)
    for number in range(5):
        queue.put_or_close(number)
    with pytest.raises(Overloaded, match="more than 2 events") as closed:
        await queue.get()
    assert closed.value.code == "slow_client"


def test_queue_reader_waits_for_the_next_item(virtual_run: Any) -> None:
    async def main() -> None:
        queue: EventQueue[str] = EventQueue(2)
        asyncio.get_running_loop().call_later(5, queue.put, "late")
        assert await queue.get() == "late"
        assert asyncio.get_running_loop().time() == 5

    virtual_run(main())
