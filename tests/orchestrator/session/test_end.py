"""Ends of a turn and of a session: cancelled, closed, crashed, refused, late, unread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.base import Chunk
from livemind.backends.errors import ExpertUnavailable
from livemind.backends.fake import FakeExpert
from livemind.orchestrator import events
from livemind.orchestrator.session import Limits
from livemind.orchestrator.turn.engine import Engine

from .conftest import PINNED, QUESTION, strong


def test_cancelled_turn_ends_once_and_frees_the_expert(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            session.request_commit("a b c d e f g h")
            await asyncio.sleep(0.15)
            session.cancel()
            seen = []
            async for event in session.events():
                seen.append(event)
                if isinstance(event, events.ResponseDone):
                    break
            assert live.done_of(seen).status == "cancelled"
            assert stage.experts["strong"].running == 0
            assert stage.experts["strong"].aborted == 1
            again = await live.answer(session, "next turn")
            assert live.text_of(again) == "NEXT TURN"

    virtual_run(main())


def test_cancel_in_the_same_instant_as_commit_ends_the_turn(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            session.request_commit("a b c")
            session.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert [done.status for done in stage.done] == ["cancelled"]

    virtual_run(main())


def test_second_cancel_does_not_disturb_the_clean_up(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    class Slow(FakeExpert):
        freed = False

        async def generate(self, *given: Any, **named: Any) -> AsyncGenerator[Chunk, None]:
            try:
                async with aclosing(super().generate(*given, **named)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            finally:
                await asyncio.sleep(0.1)
                self.freed = True

    async def main() -> None:
        expert = Slow("strong", token_s=0.1)
        async with live.open_stage(expert) as stage, stage.session(PINNED) as session:
            session.request_commit("a b c d e f")
            await asyncio.sleep(0.25)
            session.cancel()
            await asyncio.sleep(0.01)
            session.cancel()
            await asyncio.sleep(1)
            assert expert.freed
            assert [done.status for done in stage.done] == ["cancelled"]

    virtual_run(main())


def test_closed_session_ends_its_turn_and_leaves_nothing_running(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        undrafted = replace(PINNED, speculation="prefill")
        async with live.open_stage(strong()) as stage:
            async with stage.session(undrafted) as session:
                await live.type_text(session, QUESTION)
                session.request_commit()
                await asyncio.sleep(0.05)
            assert [done.status for done in stage.done] == ["cancelled"]
            assert stage.experts["strong"].running == 0

    virtual_run(main())


def test_crashed_expert_fails_the_turn_and_answers_the_next(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            stage.experts["strong"].crash_after_tokens = 2
            seen = await live.answer(session, "a b c d")
            done = live.done_of(seen)
            assert done.status == "failed"
            assert done.error.status == 503
            assert live.text_of(seen) == "A B"
            await asyncio.sleep(3)
            assert live.text_of(await live.answer(session, "still there")) == "STILL THERE"

    virtual_run(main())


def test_refusing_expert_fails_the_turn_with_its_reason(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong(max_model_len=5)) as stage:
            async with stage.session(PINNED) as session:
                done = live.done_of(await live.answer(session, "a b c d e f g"))
                assert done.error.code == "context_length_exceeded"
            stage.experts["strong"].refuse = ExpertUnavailable("strong", "gone")
            async with stage.session(PINNED) as session:
                done = live.done_of(await live.answer(session, "a"))
                assert done.error.message == "gone"

    virtual_run(main())


def test_turn_over_its_time_fails_with_timeout(virtual_run: Any, live: SimpleNamespace) -> None:
    async def main() -> None:
        async with (
            live.open_stage(strong(token_s=10)) as stage,
            stage.session(PINNED, Limits(turn_timeout_s=15)) as session,
        ):
            done = live.done_of(await live.answer(session, "a b c d"))
            assert (done.status, done.error.code) == ("failed", "timeout")
            assert done.timings.total_ms == pytest.approx(15_000, abs=1)

    virtual_run(main())


def test_reader_that_never_reads_ends_the_turn_with_its_reason(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with (
            live.open_stage(strong()) as stage,
            stage.session(PINNED, Limits(max_queued_events=20)) as session,
        ):
            session.request_commit(" ".join("x" * 100))
            await asyncio.sleep(20)
            assert [done.error.code for done in stage.done] == ["slow_client"]
            assert stage.experts["strong"].running == 0

    virtual_run(main())


def test_session_whose_engine_fails_to_end_closes_its_events(
    virtual_run: Any, live: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage:
            session = stage.session(PINNED)
            await session.__aenter__()
            end = session._loop.engine.__aexit__

            async def fail(*exc: object) -> None:
                await end()
                raise RuntimeError("boom")

            monkeypatch.setattr(Engine, "__aexit__", fail)
            with pytest.raises(RuntimeError, match="boom"):
                await session.__aexit__()
            async with asyncio.timeout(1):
                assert [event async for event in session.events()] == []

    virtual_run(main())
