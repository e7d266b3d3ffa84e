"""The bounded queue between a session and a reader beside it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from livemind.orchestrator.errors import NotFound, Overloaded
from livemind.orchestrator.event_queue import EventQueue
from livemind.orchestrator.events import ResponseTextDelta, ResponseTextDone


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
    with pytest.raises(Overloaded, match="more than 2 events or") as closed:
        await queue.get()
    assert closed.value.code == "slow_client"


def test_queue_reader_waits_for_the_next_item(virtual_run: Any) -> None:
    async def main() -> None:
        queue: EventQueue[str] = EventQueue(2)
        asyncio.get_running_loop().call_later(5, queue.put, "late")
        assert await queue.get() == "late"
        assert asyncio.get_running_loop().time() == 5

    virtual_run(main())


async def test_queue_is_bounded_in_bytes_and_takes_more_once_some_is_read() -> None:
    queue: EventQueue[object] = EventQueue(100, max_bytes=1000)

    def delta(text: str) -> ResponseTextDelta:
        return ResponseTextDelta("r", text)

    assert queue.put(delta("a" * 600))
    assert queue.put(delta("\N{EM DASH}" * 150))  # as large as 600 letters
    assert queue.full
    assert not queue.put(delta("b"))
    assert queue.put(ResponseTextDone("r", "a" * 5000))  # a turn always ends
    for _ in range(3):
        await queue.get()
    assert not queue.full
    assert queue.put(delta("b"))
    with pytest.raises(Overloaded, match="1000 bytes"):
        await fill(queue)


async def fill(queue: EventQueue[object]) -> None:
    for _ in range(3):
        queue.put_or_close(ResponseTextDelta("r", "c" * 900))
    await queue.get()
