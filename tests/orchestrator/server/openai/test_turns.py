"""What an HTTP request sees of its turn, event by event."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from livemind.orchestrator.errors import ErrorInfo, NotFound, Unavailable
from livemind.orchestrator.events import (
    Event,
    ResponseCreated,
    ResponseDone,
    ResponseTextDelta,
    RouteUpdated,
)
from livemind.orchestrator.server.live.mailbox import Mailbox
from livemind.orchestrator.server.middleware import TurnFailed
from livemind.orchestrator.server.openai.turns import Turn, received


def turn_with(*events: Event, limit: int = 10) -> tuple[Turn, Mailbox[Event]]:
    mailbox: Mailbox[Event] = Mailbox(limit)
    for event in events:
        mailbox.put(event)
    return Turn("mine", partial(received, mailbox)), mailbox


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


async def test_turn_of_a_reader_over_the_event_limit_counts_as_a_lost_client() -> None:
    events = [ResponseCreated("mine", 1, "x")] * 3
    turn, _ = turn_with(*events, limit=2)
    with pytest.raises(ConnectionResetError):
        await anext(turn)


@pytest.mark.parametrize(
    ("reason", "raised"), [(NotFound("expired"), NotFound), (None, Unavailable)]
)
async def test_turn_of_a_session_that_ends_raises_the_reason(
    reason: Any, raised: type[Exception]
) -> None:
    turn, mailbox = turn_with()
    mailbox.close(reason)
    with pytest.raises(raised):
        await anext(turn)
