"""Session lifetimes, on a virtual clock."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from livemind.backends.fake import FakeExpert
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.errors import LiveMindError, NotFound, Overloaded, Unavailable
from livemind.orchestrator.event_queue import EventQueue
from livemind.orchestrator.events import Event, ResponseDone
from livemind.orchestrator.live_mind import LiveMind
from livemind.orchestrator.server.live.registry import SessionRegistry
from livemind.orchestrator.server.live.session import LiveSession

SETTINGS = Settings.model_validate({"experts": [{"expert_id": "fake", "model_path": "fake"}]})


def stage(
    expert: FakeExpert, seen: list[Event], settings: Settings = SETTINGS
) -> tuple[LiveMind, SessionRegistry]:
    mind = LiveMind(settings, create=lambda spec: expert)
    return mind, SessionRegistry(mind, idle_timeout_s=60.0, observe=seen.append)


async def reason_of(queue: EventQueue[Event]) -> LiveMindError | None:
    """Read to the end; return why it came."""
    try:
        async for _ in queue.read():
            pass
    except LiveMindError as exc:
        return exc
    return None


def test_registry_idle_session_ends_after_the_timeout_and_not_before(virtual_run: Any) -> None:
    async def main() -> None:
        mind, registry = stage(FakeExpert("fake"), [])
        async with mind, registry.running():
            live = await registry.open(None)
            queue: EventQueue[Event] = EventQueue(10)
            with live.listen(queue):
                await asyncio.sleep(50)
                live.touch()
                await asyncio.sleep(59)
                assert registry.find(live.id, None) is live
                reason = await reason_of(queue)
            assert asyncio.get_running_loop().time() == pytest.approx(110, abs=0.1)
            assert isinstance(reason, NotFound)
            assert reason.code == "session_expired"
            with pytest.raises(NotFound):
                registry.find(live.id, None)

    virtual_run(main())


def test_registry_session_with_a_running_turn_does_not_expire(virtual_run: Any) -> None:
    async def main() -> None:
        mind, registry = stage(FakeExpert("fake", token_s=100), [])
        async with mind, registry.running():
            live = await registry.open(None)
            live.commit("one two", None)
            await asyncio.sleep(90)
            assert registry.find(live.id, None) is live
            await live.idle.wait()
            await asyncio.sleep(59)
            assert registry.find(live.id, None) is live

    virtual_run(main())


def test_registry_close_counts_the_end_of_a_running_turn_once(virtual_run: Any) -> None:
    async def main() -> None:
        seen: list[Event] = []
        expert = FakeExpert("fake", token_s=100)
        mind, registry = stage(expert, seen)
        async with mind, registry.running():
            live = await registry.open(None)
            live.commit("one two", None)
            await asyncio.sleep(1)
            assert expert.running == 1
            await registry.close(live)
            await registry.close(live)
            assert expert.running == 0
            done = [event for event in seen if isinstance(event, ResponseDone)]
            assert [event.status for event in done] == ["cancelled"]
            assert len(registry) == 0

    virtual_run(main())


def test_registry_end_closes_every_session_and_opens_none(virtual_run: Any) -> None:
    async def main() -> None:
        mind, registry = stage(FakeExpert("fake"), [])
        async with mind:
            queue: EventQueue[Event] = EventQueue(10)
            async with registry.running():
                live = await registry.open(None)
                listening = live.listen(queue)
                listening.__enter__()
            reason = await reason_of(queue)
            assert isinstance(reason, Unavailable)
            with pytest.raises(Unavailable):
                await registry.open(None)

    virtual_run(main())


def test_registry_full_refuses_and_has_room_again_after_a_close(virtual_run: Any) -> None:
    async def main() -> None:
        server = SETTINGS.server.model_copy(update={"max_sessions": 1})
        settings = SETTINGS.model_copy(update={"server": server})
        mind, registry = stage(FakeExpert("fake"), [], settings)
        async with mind, registry.running():
            live = await registry.open(None)
            with pytest.raises(Overloaded) as refused:
                await registry.open(None)
            assert refused.value.retry_after_s is not None
            await registry.close(live)
            await registry.open(None)

    virtual_run(main())


def test_registry_open_that_is_cancelled_leaves_no_session(virtual_run: Any) -> None:
    async def main() -> None:
        mind, registry = stage(FakeExpert("fake"), [])
        async with mind, registry.running():
            opening = asyncio.create_task(registry.open(None))
            await asyncio.sleep(0)
            opening.cancel()
            await asyncio.wait([opening])
            await asyncio.sleep(1)
            assert len(registry) == 0
            assert mind.stats()["sessions"] == 0

    virtual_run(main())


def test_registry_listener_of_an_ended_session_is_closed_at_once(virtual_run: Any) -> None:
    async def main() -> None:
        mind, registry = stage(FakeExpert("fake"), [])
        async with mind, registry.running():
            live: LiveSession = await registry.open(None)
            await registry.close(live)
            queue: EventQueue[Event] = EventQueue(10)
            with live.listen(queue):
                await reason_of(queue)

    virtual_run(main())


class NeverOpen:
    """A session whose start takes for ever."""

    async def __aenter__(self) -> NeverOpen:
        await asyncio.sleep(3600)
        return self

    async def __aexit__(self, *exc: object) -> None:
        raise AssertionError("was never entered")


def test_registry_end_refuses_a_session_that_is_still_opening(virtual_run: Any) -> None:
    async def main() -> None:
        mind: Any = SimpleNamespace(session=NeverOpen)
        registry = SessionRegistry(mind, idle_timeout_s=60, observe=lambda event: None)
        async with registry.running():
            opening = asyncio.create_task(registry.open(None))
            await asyncio.sleep(1)
        with pytest.raises(Unavailable):
            await opening
        assert asyncio.get_running_loop().time() < 60

    virtual_run(main())
