"""Routes of a session: which experts are prepared before and after the text is routed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from livemind.backends.fake import FakeExpert
from livemind.orchestrator import events
from livemind.orchestrator.routing.estimate import RouteEstimate
from livemind.orchestrator.session import SessionOptions

from .conftest import strong


def test_routed_turn_prefills_the_fast_expert_then_the_routed_one(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        fakes = (FakeExpert("fast", prefill_token_s=0.001), strong())
        async with (
            live.open_stage(*fakes, words={"port": "strong"}) as stage,
            stage.session(SessionOptions()) as session,
        ):
            await live.type_text(session, "tell me now the port of the machine please")
            assert stage.experts["fast"].prefilled_tokens > 0
            assert stage.experts["strong"].prefilled_tokens > 0
            seen = await live.answer(session)
            assert live.done_of(seen).expert == "strong"
            routes = [event for event in seen if isinstance(event, events.RouteUpdated)]
            assert routes[-1].stable

    virtual_run(main())


def test_likely_expert_is_woken_and_prefilled_until_the_route_settles_elsewhere(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    """One that is ready only after that computes nothing for this turn."""

    async def main() -> None:
        likely, late = FakeExpert("likely"), FakeExpert("late", start_s=5.0)
        options = SessionOptions(speculation="prefill", documents=("d " * 40,))
        async with (
            live.open_stage(
                FakeExpert("fast"), strong(), likely, late, warm=("fast", "strong", "likely")
            ) as stage,
            stage.session(options) as session,
        ):
            either = RouteEstimate("likely", "likely", 0.5, (("late", 0.4),), final=0.5)
            strong_now = RouteEstimate("strong", "strong", 0.9, final=0.99, stable=True)
            stage.router.estimates = [either, strong_now]
            session.replace("a b ")
            await asyncio.sleep(0.5)
            assert (likely.prefilled_tokens > 40, late.starts) == (True, 1)
            session.append("c d ")
            await asyncio.sleep(0.2)
            before = likely.prefilled_tokens
            await asyncio.sleep(10)
            assert stage.experts["strong"].prefilled_tokens > 40
            assert (likely.prefilled_tokens, late.prefilled_tokens) == (before, 0)

    virtual_run(main())


def test_prefill_of_the_fast_expert_stops_once_another_is_routed(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        fast = FakeExpert("fast", prefill_token_s=0.01)
        options = SessionOptions(speculation="prefill", documents=("d " * 400,))
        async with (
            live.open_stage(fast, strong(), words={"a": "strong"}) as stage,
            stage.session(options) as session,
        ):
            session.replace("a b ")
            await asyncio.sleep(0.2)
            session.append("c d ")
            await asyncio.sleep(0.1)
            before = fast.prefilled_tokens
            await asyncio.sleep(30)
            assert fast.prefilled_tokens == before
            assert stage.experts["strong"].prefilled_tokens > 400

    virtual_run(main())


def test_commit_after_a_cancel_while_the_text_was_routed_answers(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with (
            live.open_stage(FakeExpert("fast"), strong()) as stage,
            stage.session(SessionOptions()) as session,
        ):
            stage.router.delay_s = 0.5
            session.replace("tell me ")
            await asyncio.sleep(0.1)
            session.cancel()
            assert live.done_of(await live.answer(session)).status == "completed"

    virtual_run(main())
