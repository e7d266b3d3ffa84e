"""The answer of a turn: what leaves first, and when its clock begins and ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.fake import FakeExpert
from livemind.orchestrator.event_queue import STEPS_TO_THE_WIRE
from livemind.orchestrator.events import ResponseDone, ResponseTextDelta
from livemind.orchestrator.session import Session, SessionOptions
from livemind.orchestrator.turn.loop import TurnLoop

PINNED = SessionOptions(pinned="strong")
QUESTION = "a b?"


async def drafted(session: Session, question: str = QUESTION) -> None:
    """Type a question, and wait until its draft is whole."""
    session.replace(question)
    await asyncio.sleep(5)


def expert() -> FakeExpert:
    return FakeExpert("strong", prefill_token_s=0.01, token_s=0.02)


def test_text_of_a_whole_draft_leaves_before_its_turn_ends(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(expert()) as stage, stage.session(PINNED) as session:
            await drafted(session)
            session.request_commit()
            at_s, steps = asyncio.get_running_loop().time(), 0
            seen: list[Any] = []
            while not any(isinstance(event, ResponseTextDelta) for event in seen):
                seen.append(await session.next_event())
            while session.answering:
                await asyncio.sleep(0)
                steps += 1
            assert steps > STEPS_TO_THE_WIRE
            assert asyncio.get_running_loop().time() == at_s
            assert not any(isinstance(event, ResponseDone) for event in seen)
            assert live.done_of(stage.done).status == "completed"

    virtual_run(main())


def test_cancel_right_behind_the_commit_of_a_whole_draft_ends_it_completed(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(expert()) as stage, stage.session(PINNED) as session:
            await drafted(session)
            session.request_commit()
            session.cancel()
            session.cancel()
            await asyncio.sleep(1)
            assert [done.status for done in stage.done] == ["completed"]

    virtual_run(main())


def test_commit_right_behind_that_of_a_whole_draft_leaves_it_completed(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(expert()) as stage, stage.session(PINNED) as session:
            await drafted(session)
            session.request_commit()
            session.request_commit("c d?")
            await asyncio.sleep(5)
            assert [done.status for done in stage.done] == ["completed", "completed"]
            said = [message.content for message in session.conversation]
            assert said == [QUESTION, "A B?", "c d?", "C D?"]

    virtual_run(main())


def test_close_right_behind_the_commit_of_a_whole_draft_ends_it_completed(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(expert()) as stage:
            async with stage.session(PINNED) as session:
                await drafted(session)
                session.request_commit()
            assert [done.status for done in stage.done] == ["completed"]

    virtual_run(main())


def test_clock_of_a_turn_begins_where_its_commit_came_in(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(expert()) as stage, stage.session(PINNED) as session:
            await drafted(session)
            before_s = asyncio.get_running_loop().time()
            session.request_commit(arrived_s=before_s - 0.25)
            await asyncio.sleep(1)
            assert stage.done[0].timings.ttft_ms == 250.0
            assert stage.done[0].timings.typing_ms == 4750.0

    virtual_run(main())


def test_clock_of_a_commit_that_waits_for_an_answer_begins_where_it_came_in(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    class Slow(FakeExpert):
        """Takes a second to let go of an answer."""

        async def generate(self, *args: Any, **given: Any) -> Any:
            try:
                async for chunk in super().generate(*args, **given):
                    yield chunk
            finally:
                await asyncio.sleep(1)

    async def main() -> None:
        slow = Slow("strong", prefill_token_s=0.01, token_s=0.5)
        async with live.open_stage(slow) as stage, stage.session(PINNED) as session:
            session.request_commit("a b c d e f g h?")
            await asyncio.sleep(1)
            session.request_commit("i?")
            await asyncio.sleep(10)
            assert [done.status for done in stage.done] == ["cancelled", "completed"]
            assert stage.done[1].timings.ttft_ms > 1000

    virtual_run(main())


def test_clock_of_text_and_commit_that_came_together_has_no_negative_time(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(expert()) as stage, stage.session(PINNED) as session:
            arrived_s = asyncio.get_running_loop().time()
            await asyncio.sleep(0.01)  # until what came is taken up
            session.replace(QUESTION)
            session.request_commit(arrived_s=arrived_s)
            await asyncio.sleep(5)
            assert stage.done[0].timings.typing_ms == 0.0

    virtual_run(main())


def test_clock_of_a_turn_ends_when_its_first_text_is_on_its_way(
    virtual_run: Any, live: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0

    def now() -> float:  # each step of the event loop takes a millisecond
        return asyncio.get_running_loop().time() + steps / 1000

    async def main() -> None:
        nonlocal steps
        options = replace(PINNED, segment="sentence")
        async with live.open_stage(expert()) as stage, stage.session(options) as session:
            await drafted(session, f"{QUESTION} c d?")
            monkeypatch.setattr(TurnLoop, "now", staticmethod(now))
            session.request_commit()
            while not stage.done:
                await asyncio.sleep(0)
                steps += 1
            timings = stage.done[0].timings
            assert timings.ttft_ms >= STEPS_TO_THE_WIRE - 1
            assert timings.ttft_ms <= timings.first_sentence_ms <= timings.total_ms

    virtual_run(main())


def test_turn_of_a_whole_draft_ends_also_where_its_session_is_torn_down(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(expert()) as stage:

            async def call() -> None:
                async with stage.session(PINNED) as session:
                    await drafted(session)
                    session.request_commit()
                    task = asyncio.current_task()
                    assert task is not None
                    asyncio.get_running_loop().call_soon(task.cancel)
                    raise ConnectionError

            with suppress(ConnectionError, asyncio.CancelledError, ExceptionGroup):
                await asyncio.create_task(call())
            assert [done.status for done in stage.done] == ["completed"]

    virtual_run(main())
