"""Drafts of a session: adopted, discarded, interrupted and continued."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from livemind.backends.base import GenerationParams
from livemind.orchestrator import events
from livemind.orchestrator.session import SessionOptions

from .conftest import PINNED, QUESTION, strong


def test_typed_turn_adopts_the_draft_and_answers_in_the_same_instant(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            await live.type_text(session, QUESTION)
            await asyncio.sleep(1.0)
            seen = await live.answer(session)
            done = live.done_of(seen)
            assert done.timings.ttft_ms == 0.0
            assert done.ledger.draft_adopted == done.usage.completion_tokens
            assert done.timings.draft_lead_ms > 0
            assert any(isinstance(event, events.DraftAdopted) for event in seen)

    virtual_run(main())


def test_typed_turn_committed_early_adopts_the_running_draft(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with (
            live.open_stage(strong(token_s=0.2)) as stage,
            stage.session(PINNED) as session,
        ):
            await live.type_text(session, QUESTION)
            await asyncio.sleep(0.5)
            seen = await live.answer(session)
            done = live.done_of(seen)
            assert live.text_of(seen) == QUESTION.upper()
            assert 0 < done.ledger.draft_adopted < done.usage.completion_tokens
            assert done.timings.ttft_ms == 0.0

    virtual_run(main())


def test_edit_after_draft_discards_it_and_answers_the_committed_text(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            await live.type_text(session, QUESTION)
            await asyncio.sleep(1.0)
            seen = await live.answer(session, "something else entirely")
            done = live.done_of(seen)
            assert live.text_of(seen) == "SOMETHING ELSE ENTIRELY"
            assert done.ledger.draft_wasted == done.ledger.draft_speculated > 0
            dropped = [e for e in seen if isinstance(e, events.DraftDiscarded)]
            assert [e.tokens for e in dropped] == [done.ledger.draft_wasted]

    virtual_run(main())


def test_draft_interrupted_by_foreground_work_continues_where_it_stopped(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        text = "one two three four five six seven eight nine ten?"
        async with (
            live.open_stage(strong(token_s=0.1)) as stage,
            stage.session(PINNED) as session,
            stage.session(PINNED) as other,
        ):
            session.replace(text)
            await asyncio.sleep(0.6)
            await live.answer(other, "quick")
            await asyncio.sleep(1.0)
            seen = await live.answer(session)
            done = live.done_of(seen)
            assert live.text_of(seen) == text.upper()
            assert 0 < done.ledger.draft_adopted < 10
            assert done.usage.completion_tokens == 10

    virtual_run(main())


@pytest.mark.parametrize("params", [GenerationParams(seed=1), GenerationParams(stop=("x",))])
def test_interrupted_draft_that_cannot_be_continued_is_discarded(
    virtual_run: Any, live: SimpleNamespace, params: GenerationParams
) -> None:
    async def main() -> None:
        options = SessionOptions(pinned="strong", params=params)
        async with (
            live.open_stage(strong(token_s=0.1)) as stage,
            stage.session(options) as session,
            stage.session(PINNED) as other,
        ):
            session.replace("one two three four five?")
            await asyncio.sleep(0.4)
            await live.answer(other, "quick")
            seen = await live.answer(session)
            assert live.done_of(seen).ledger.draft_wasted > 0
            assert live.text_of(seen) == "ONE TWO THREE FOUR FIVE?"

    virtual_run(main())


def test_long_draft_stops_at_its_limit_and_is_completed_at_commit(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        text = " ".join(f"w{n}" for n in range(40))
        async with (
            live.open_stage(strong(), max_draft_tokens=10) as stage,
            stage.session(PINNED) as session,
        ):
            session.replace(text)
            await asyncio.sleep(5)
            assert stage.experts["strong"].generated_tokens == 10
            seen = await live.answer(session)
            assert live.text_of(seen) == text.upper()
            assert live.done_of(seen).ledger.draft_adopted == 10

    virtual_run(main())
