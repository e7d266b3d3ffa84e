"""Prefill of a session: which expert computes what, until when, and what of it counts."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.fake import FakeExpert
from livemind.orchestrator.session import SessionOptions

from .conftest import PINNED, QUESTION, strong


def test_prefill_is_adopted_as_far_as_the_answer_found_it_cached(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        options = SessionOptions(pinned="strong", speculation="prefill", documents=("d " * 50,))
        async with live.open_stage(strong()) as stage, stage.session(options) as session:
            await live.type_text(session, QUESTION)
            seen = await live.answer(session)
            done = live.done_of(seen)
            assert done.usage.cached_tokens >= 48
            assert done.ledger.prefill_adopted == done.usage.cached_tokens
            assert done.ledger.drafts == 0
            assert done.timings.prefill_lead_ms > 0

    virtual_run(main())


def test_speculation_off_touches_no_expert_before_the_commit(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        options = SessionOptions(pinned="strong", speculation="off")
        async with live.open_stage(strong()) as stage, stage.session(options) as session:
            await live.type_text(session, QUESTION)
            await asyncio.sleep(2)
            assert stage.experts["strong"].started == 0
            assert live.text_of(await live.answer(session)) == QUESTION.upper()

    virtual_run(main())


def test_unloaded_expert_is_woken_by_typing_and_prefilled_once_ready(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        slow = strong(start_s=2.0)
        async with (
            live.open_stage(slow, warm=()) as stage,
            stage.session(SessionOptions(pinned="strong", speculation="prefill")) as session,
        ):
            await live.type_text(session, "a b c d e f g h i j k l m n o p q ")
            assert slow.starts == 1
            assert slow.prefilled_tokens > 0
            await live.answer(session)
            assert slow.starts == 1

    virtual_run(main())


@pytest.mark.parametrize("how", ["clear", "off"])
def test_prefill_of_unwanted_text_stops(virtual_run: Any, live: SimpleNamespace, how: str) -> None:
    async def main() -> None:
        options = replace(PINNED, speculation="prefill")
        async with live.open_stage(strong()) as stage, stage.session(options) as session:
            session.replace("w " * 400)
            await asyncio.sleep(0.3)
            if how == "clear":
                session.clear()
            else:
                session.update(replace(options, speculation="off"))
            before = stage.experts["strong"].prefilled_tokens
            await asyncio.sleep(20)
            assert stage.experts["strong"].prefilled_tokens == before > 0

    virtual_run(main())


def test_prefill_budget_of_the_turn_holds_inside_one_target(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        options = replace(PINNED, speculation="prefill", documents=("d " * 400,))
        async with (
            live.open_stage(strong()) as stage,
            stage.session(options, max_prefill_tokens=42) as session,
        ):
            session.replace("hello there ")
            await asyncio.sleep(20)
            one_slice = 8
            assert 40 <= stage.experts["strong"].prefilled_tokens <= 42 + one_slice

    virtual_run(main())


def test_prefill_waiting_beside_an_answer_does_not_keep_its_expert_loaded(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        fast, other = FakeExpert("fast", token_s=0.1), strong()
        prefilling = replace(PINNED, speculation="prefill")
        async with (
            live.open_stage(fast, other, FakeExpert("third"), max_loaded=2, warm=()) as stage,
            stage.session(prefilling) as session,
            stage.session(SessionOptions(pinned="fast")) as talker,
            stage.session(SessionOptions(pinned="third")) as wants,
        ):
            await live.answer(session, "load it")
            await live.answer(talker, "load it")
            talker.request_commit("w " * 15)
            session.replace("w " * 200)
            await asyncio.sleep(0.5)
            done = live.done_of(await live.answer(wants, "quick"))
            assert (done.status, other.stops) == ("completed", 1)
            assert talker.answering

    virtual_run(main())


def test_prefill_lead_is_unknown_when_only_another_expert_was_prefilled(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        fakes = (FakeExpert("fast", prefill_token_s=0.001), strong())
        async with (
            live.open_stage(*fakes, words={"zzz": "strong"}) as stage,
            stage.session(SessionOptions(speculation="prefill"), max_waste_ratio=0) as session,
        ):
            session.replace("a b c d e f g h i j ")
            await asyncio.sleep(1)
            done = live.done_of(await live.answer(session))
            assert done.expert == "strong"
            assert done.ledger.prefill_wasted > 0
            assert done.timings.prefill_lead_ms is None

    virtual_run(main())
