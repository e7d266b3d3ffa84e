"""What leaves a turn beside its text: sentences, usage of what was cut off, the next prefix."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.base import Message
from livemind.backends.fake import FakeExpert
from livemind.orchestrator import events
from livemind.orchestrator.options import SessionOptions

PINNED = SessionOptions(pinned="strong", speculation="off")
TALK = "It is open. Come in! Dr. No waits."


def strong(**given: Any) -> FakeExpert:
    return FakeExpert("strong", **{"prefill_token_s": 0.01, "token_s": 0.1, **given})


def spoken(seen: list[events.Event]) -> list[str]:
    return [event.text for event in seen if isinstance(event, events.ResponseSentence)]


# ---- sentences -----------------------------------------------------------------------------------


@pytest.mark.parametrize("speculation", ["off", "draft"])
def test_segmented_answer_leaves_in_sentences_beside_its_deltas(
    virtual_run: Any, live: SimpleNamespace, speculation: Any
) -> None:
    async def main() -> None:
        expert = strong(answer=lambda messages: TALK)
        options = replace(PINNED, segment="sentence", speculation=speculation)
        async with live.open_stage(expert) as stage, stage.session(options) as session:
            session.replace("is it open?")
            await asyncio.sleep(3)
            seen = await live.answer(session)
            assert spoken(seen) == ["It is open. ", "Come in! ", "Dr. No waits."]
            assert live.text_of(seen) == TALK
            timings = live.done_of(seen).timings
            if speculation == "draft":
                assert timings.first_sentence_ms == timings.ttft_ms == 0
            else:
                assert timings.first_sentence_ms == pytest.approx(timings.ttft_ms + 300)
            indexes = [e.index for e in seen if isinstance(e, events.ResponseSentence)]
            assert indexes == [0, 1, 2]
            kinds = [event.type for event in seen]
            assert kinds.index("response.sentence") > kinds.index("response.output_text.delta")
            assert kinds.index("response.output_text.done") > len(kinds) - 1 - kinds[::-1].index(
                "response.sentence"
            )

    virtual_run(main())


def test_answer_leaves_in_no_sentences_unless_asked_to(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            seen = await live.answer(session, "one. Two.")
            assert spoken(seen) == []
            assert live.done_of(seen).timings.first_sentence_ms is None

    virtual_run(main())


def test_cancelled_answer_speaks_no_unfinished_sentence(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        expert = strong(answer=lambda messages: TALK)
        options = replace(PINNED, segment="sentence")
        async with live.open_stage(expert) as stage, stage.session(options) as session:
            turn = session.commit("is it open?")
            await asyncio.sleep(0.5)
            session.cancel()
            seen = [event async for event in turn]
            assert spoken(seen) == ["It is open. "]

    virtual_run(main())


# ---- usage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after_s", "shown"), [(0.03, 0), (0.2, 2)])
def test_cancelled_answer_has_the_usage_of_its_prompt_and_of_what_was_shown(
    virtual_run: Any, live: SimpleNamespace, after_s: float, shown: int
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            session.request_commit("one two three")
            await asyncio.sleep(after_s)
            session.cancel()
            await asyncio.sleep(1)
            done = stage.done[0]
            assert done.status == "cancelled"
            assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (6, shown)
            assert done.usage.cached_tokens is None
            assert done.ledger.cost_multiplier is None

    virtual_run(main())


def test_cancelled_answer_that_adopted_a_draft_has_its_usage(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        options = replace(PINNED, speculation="draft")
        async with (
            live.open_stage(strong(token_s=0.2)) as stage,
            stage.session(options) as session,
        ):
            session.replace("one two three four five six seven?")
            await asyncio.sleep(0.8)
            session.request_commit()
            await asyncio.sleep(0.25)
            session.cancel()
            await asyncio.sleep(1)
            done = stage.done[0]
            shown = next(item for item in session.items if item.role == "assistant").text
            assert done.status == "cancelled"
            assert done.usage.prompt_tokens == 10
            assert 1 < done.usage.completion_tokens == len(shown.split()) < 7

    virtual_run(main())


# ---- between turns -------------------------------------------------------------------------------


@pytest.mark.parametrize(("between_turns", "ready"), [(True, 12), (False, 8)])
def test_prefix_of_the_next_turn_is_ready_before_anybody_types(
    virtual_run: Any, live: SimpleNamespace, between_turns: bool, ready: int
) -> None:
    """Of `user: one two, assistant: ONE TWO, user:` the cache lacks the last, the marks' block."""

    async def main() -> None:
        expert = strong()
        options = replace(PINNED, speculation="prefill", between_turns=between_turns)
        async with live.open_stage(expert) as stage, stage.session(options) as session:
            await live.answer(session, "one two three four")
            await asyncio.sleep(1)
            next_turn = expert.render(
                [*session.conversation, Message("user", "five ")], open_turn=True
            )
            assert expert.cached_tokens(next_turn) == ready

    virtual_run(main())


def test_prefix_after_a_long_conversation_left_is_computed_between_the_turns(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        computed = {}
        for between_turns in (True, False):
            expert = strong(token_s=0.001, max_model_len=200)
            options = replace(PINNED, speculation="prefill", between_turns=between_turns)
            async with live.open_stage(expert) as stage, stage.session(options) as session:
                waited = 0
                for number in range(40):
                    await asyncio.sleep(5)
                    before = expert.prefilled_tokens
                    session.replace(f"question {number} of many words ")
                    await asyncio.sleep(2)
                    await live.answer(session)
                    waited += expert.prefilled_tokens - before
                computed[between_turns] = (expert.prefilled_tokens, waited)
        (all_ahead, waited_ahead), (all_late, waited_late) = computed[True], computed[False]
        assert waited_ahead <= 0.9 * waited_late
        assert all_ahead <= 1.05 * all_late

    virtual_run(main())


@pytest.mark.parametrize("how", ["off", "unloaded", "first"])
def test_nothing_is_prepared_between_turns_where_there_is_nothing_to(
    virtual_run: Any, live: SimpleNamespace, how: str
) -> None:
    async def main() -> None:
        expert = strong()
        mode: Any = "off" if how == "off" else "prefill"
        async with (
            live.open_stage(expert, FakeExpert("other"), max_loaded=1, warm=()) as stage,
            stage.session(replace(PINNED, speculation=mode)) as session,
            stage.session(replace(PINNED, pinned="other")) as other,
        ):
            if how != "first":
                await live.answer(session, "one two three four five six")
                if how == "unloaded":
                    await live.answer(other, "take its place")
                    session.update(session.options, [Message("user", "said elsewhere " * 8)])
            before = expert.started, expert.starts
            await asyncio.sleep(5)
            assert (expert.started, expert.starts) == before

    virtual_run(main())
