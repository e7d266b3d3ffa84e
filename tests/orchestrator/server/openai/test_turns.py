"""What an HTTP request sees of its turn, event by event."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from livemind.backends.fake import FakeExpert
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.errors import ErrorInfo, NotFound, Overloaded, Unavailable
from livemind.orchestrator.event_queue import EventQueue
from livemind.orchestrator.events import (
    Event,
    ResponseCreated,
    ResponseDone,
    ResponseTextDelta,
    RouteUpdated,
)
from livemind.orchestrator.images.door import ImageDoor
from livemind.orchestrator.live_mind import LiveMind
from livemind.orchestrator.server.live.registry import SessionRegistry
from livemind.orchestrator.server.live.session import LiveSession
from livemind.orchestrator.server.metrics import Metrics
from livemind.orchestrator.server.middleware import TurnFailed
from livemind.orchestrator.server.openai.bodies import ChatRequest
from livemind.orchestrator.server.openai.turns import Turn, adopting_turn
from livemind.orchestrator.server.state import InFlight, ServerState


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


@pytest.mark.parametrize("seed", range(3))
def test_two_hundred_requests_behind_streams_just_closed_are_all_taken(
    virtual_run: Any, seed: int
) -> None:
    """The client closes its stream and asks again at once: the server may notice either first."""
    chance = random.Random(seed)

    class Moody(FakeExpert):
        async def _compute(self, prompt: Any) -> int:
            self.ttft_s, self.token_s = chance.uniform(0, 0.1), chance.uniform(0, 0.1)
            return await super()._compute(prompt)

    expert = Moody("fake", max_model_len=400)
    config = {
        "experts": [{"expert_id": "fake", "model_path": "fake"}],
        "lazy_loading": {"enabled": False},
        "server": {"max_concurrent_turns": 1, "max_waiting_turns": 0},
    }

    async def main() -> None:
        ended: list[ResponseDone] = []
        settings = Settings.model_validate(config)
        async with LiveMind(settings, create=lambda spec: expert) as mind:

            def observe(event: Event) -> None:
                if isinstance(event, ResponseDone):
                    ended.append(event)

            registry = SessionRegistry(mind, idle_timeout_s=1e6, observe=observe)
            state = ServerState(mind, registry, Metrics(), ImageDoor(settings), InFlight())

            async def ask(live: LiveSession, text: str) -> str:
                fields = {"messages": [{"role": "user", "content": text}], "max_tokens": 8}
                body = ChatRequest.model_validate(fields)
                async with adopting_turn(state, body, live, {}) as turn:
                    return "".join([piece.delta async for piece in turn])

            async with registry.running(), asyncio.TaskGroup() as group:
                live = await registry.open(None)
                closing = []
                for number in range(200):
                    stream = group.create_task(ask(live, f"question {number} of many"))
                    await asyncio.sleep(chance.choice([0, 0, 0.001, 0.05, 0.2, 0.5]))
                    if not stream.done():
                        stream.cancel()
                        closing.append(stream)
                    if chance.random() < 0.5:
                        await asyncio.sleep(0)
                assert await ask(live, "the last one") == "THE LAST ONE"
                await asyncio.sleep(1)
                assert all(stream.done() for stream in closing)
            assert [done.status for done in ended][-1] == "completed"
            assert len(ended) == len({done.response_id for done in ended}) <= 201
            assert len(ended) >= 100
            assert {done.status for done in ended} <= {"completed", "cancelled"}
            assert not expert.running

    virtual_run(main())
