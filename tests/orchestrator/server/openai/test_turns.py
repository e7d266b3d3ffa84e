"""What an HTTP request sees of its turn, event by event."""

from __future__ import annotations

from typing import Any

import pytest

from livemind.orchestrator.errors import ErrorInfo, NotFound, Overloaded, Unavailable
from livemind.orchestrator.event_queue import EventQueue
from livemind.orchestrator.events import (
    Event,
    ResponseCreated,
    ResponseDone,
    ResponseTextDelta,
    RouteUpdated,
)
from livemind.orchestrator.server.middleware import TurnFailed
from livemind.orchestrator.server.openai.turns import Turn


def turn_with(*events: Event, limit: int = 10) -> tuple[Turn, EventQueue[Event]]:
    queue: EventQueue[Event] = EventQueue(limit)
    for event in events:
        queue.put_or_close(event)
    return Turn("mine", queue.get), queue


async def test_turn_skips_what_belongs_to_another_turn() -> None:
    """The end of a turn just before can still be on its way when the next one is committed."""
    created = ResponseCreated("mine", 2, "expert")
    text = ResponseTextDelta("mine", "Hello")
    done = ResponseDone("mine", 2, "completed", "expert")
    turn, _ = turn_with(
        ResponseDone("other", 1, "failed"),
        RouteUpdated(1, "x", "x", 1.0, (), True),
        created,
        text,
        done,
    )
    assert [piece async for piece in turn] == [text]
    assert turn.done is done
    assert turn.expert == "expert"


async def test_turn_that_failed_raises_what_its_end_says() -> None:
    info = ErrorInfo(503, "gone", "server_error", None, "expert_unavailable")
    turn, _ = turn_with(ResponseDone("mine", 1, "failed", error=info))
    with pytest.raises(TurnFailed) as failed:
        await anext(turn)
    assert failed.value.info is info


async def test_turn_that_was_cancelled_raises_cancelled() -> None:
    turn, _ = turn_with(ResponseDone("mine", 1, "cancelled"))
    with pytest.raises(TurnFailed) as failed:
        await anext(turn)
    assert failed.value.info.code == "cancelled"


async def test_turn_of_a_reader_over_the_event_limit_is_refused_as_too_slow() -> None:
    turn, _ = turn_with(*[ResponseTextDelta("mine", "x")] * 3, limit=2)
    with pytest.raises(Overloaded, match="reads too slowly: more than 2 events"):
        await anext(turn)


@pytest.mark.parametrize(
    ("reason", "raised"), [(NotFound("expired"), NotFound), (None, Unavailable)]
)
async def test_turn_of_a_session_that_ends_raises_the_reason(
    reason: Any, raised: type[Exception]
) -> None:
    turn, queue = turn_with()
    queue.close(reason)
    with pytest.raises(raised):
        await anext(turn)
