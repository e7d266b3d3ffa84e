"""The bounded queues of a session: in order; a slow reader loses status, never text."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from livemind.orchestrator.errors import NotFound, Overloaded
from livemind.orchestrator.event_queue import (
    MAX_STATUS_EVENTS,
    EventQueue,
    Outbox,
    call_when_out,
    when_out,
)
from livemind.orchestrator.events import (
    DraftCreated,
    Event,
    ExpertUpdated,
    PrefillUpdated,
    ResponseCreated,
    ResponseDone,
    ResponseTextDelta,
    ResponseTextDone,
    RetrievalUpdated,
    RouteUpdated,
)

STATUS: list[Event] = [
    RouteUpdated(1, "e", "d", 0.5, (), False),
    RetrievalUpdated(1, (), False),
    PrefillUpdated(1, "e", 1, 2),
    ExpertUpdated("e", "ready"),
]
NEEDED: list[Event] = [
    DraftCreated("d1", "e", 1),
    ResponseCreated("r1", 1, "e"),
    ResponseTextDone("r1", "text"),
    ResponseDone("r1", 1, "completed"),
]


def delta(number: int) -> ResponseTextDelta:
    return ResponseTextDelta("r1", str(number))


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


async def drained(outbox: Outbox) -> list[Event]:
    outbox.close()
    return [event async for event in outbox.read()]


async def test_events_are_read_in_the_order_they_were_put() -> None:
    outbox = Outbox(10)
    sent: list[Event] = [STATUS[0], delta(1), STATUS[1], delta(2), NEEDED[3]]
    assert all(outbox.put(event) for event in sent)
    assert await drained(outbox) == sent


@pytest.mark.parametrize("event", STATUS, ids=lambda event: event.type)
async def test_status_is_dropped_while_the_reader_is_far_behind(event: Event) -> None:
    outbox = Outbox(1000)
    for number in range(MAX_STATUS_EVENTS):
        outbox.put(delta(number))
    assert outbox.put(event)
    assert event not in await drained(outbox)


async def test_status_of_a_reader_just_below_the_limit_is_kept() -> None:
    outbox = Outbox(1000)
    for number in range(MAX_STATUS_EVENTS - 1):
        outbox.put(delta(number))
    outbox.put(STATUS[0])
    assert (await drained(outbox))[-1] == STATUS[0]


async def test_text_over_the_limit_is_refused_not_dropped_silently() -> None:
    outbox = Outbox(2)
    assert [outbox.put(delta(number)) for number in range(3)] == [True, True, False]
    assert await drained(outbox) == [delta(0), delta(1)]


@pytest.mark.parametrize("event", NEEDED, ids=lambda event: event.type)
async def test_needed_event_over_the_limit_is_kept(event: Event) -> None:
    outbox = Outbox(2)
    for number in range(MAX_STATUS_EVENTS):
        outbox.put(delta(number))
    assert outbox.put(event)
    assert (await drained(outbox))[-1] == event


async def test_text_is_taken_again_once_the_reader_caught_up() -> None:
    outbox = Outbox(1)
    outbox.put(delta(0))
    reader = outbox.read()
    assert await anext(reader) == delta(0)
    assert outbox.put(delta(1))
    assert await anext(reader) == delta(1)
    await reader.aclose()


async def test_waiting_reader_gets_an_event_as_it_comes() -> None:
    outbox = Outbox(2)
    reader = outbox.read()
    waiting = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0)
    assert not waiting.done()
    outbox.put(delta(1))
    assert await asyncio.wait_for(waiting, 1) == delta(1)
    await reader.aclose()


async def test_close_ends_a_waiting_reader() -> None:
    outbox = Outbox(2)

    async def read() -> list[Event]:
        return [event async for event in outbox.read()]

    waiting = asyncio.ensure_future(read())
    await asyncio.sleep(0)
    outbox.close()
    assert await asyncio.wait_for(waiting, 1) == []


async def test_next_reader_goes_on_where_the_last_one_stopped() -> None:
    outbox = Outbox(5)
    outbox.put(delta(1))
    outbox.put(delta(2))
    first = outbox.read()
    await anext(first)
    await first.aclose()
    assert await drained(outbox) == [delta(2)]


async def test_outbox_is_full_at_the_limit_until_something_is_read() -> None:
    outbox = Outbox(2)
    seen = [outbox.full]
    for number in range(2):
        outbox.put(delta(number))
        seen.append(outbox.full)
    reader = outbox.read()
    await anext(reader)
    seen.append(outbox.full)
    await reader.aclose()
    assert seen == [False, False, True, False]


async def test_what_was_put_is_on_the_wire_when_it_is_called_out() -> None:
    outbox, socket, wire = Outbox(5), Outbox(5), []
    called = asyncio.Event()

    async def hand_on() -> None:
        async for event in outbox.read():
            socket.put(event)

    async def write() -> None:
        async for event in socket.read():
            wire.append(event)

    def check() -> None:
        assert wire == [delta(1)]
        called.set()

    tasks = [asyncio.create_task(hand_on()), asyncio.create_task(write())]
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # both wait
    outbox.put(delta(1))
    call_when_out(check)
    await when_out()
    assert wire == [delta(1)]
    await asyncio.wait_for(called.wait(), 1)
    outbox.close()
    socket.close()
    await asyncio.gather(*tasks)
