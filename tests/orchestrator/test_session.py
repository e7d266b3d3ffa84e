"""Sessions on fake experts and a virtual clock: the way of a turn, rule by rule."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.base import Chunk, GenerationParams, Message
from livemind.backends.errors import ExpertUnavailable
from livemind.backends.fake import FakeExpert
from livemind.orchestrator import events
from livemind.orchestrator.errors import (
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    RevisionConflict,
)
from livemind.orchestrator.routing.estimate import RouteEstimate
from livemind.orchestrator.session import Limits, SessionOptions
from livemind.orchestrator.turn.engine import Engine
from livemind.orchestrator.turn.values import Policy
from livemind.rag.base import Passage, RetrievalResult

PINNED = SessionOptions(pinned="strong")
QUESTION = "what is the port of kestrel?"


def strong(**given: Any) -> FakeExpert:
    return FakeExpert("strong", **{"prefill_token_s": 0.01, "token_s": 0.02, **given})


def test_commit_without_typing_answers_without_speculating(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            seen = await live.answer(session, QUESTION)
            done = live.done_of(seen)
            assert live.text_of(seen) == QUESTION.upper()
            assert done.status == "completed"
            assert done.ledger == events.Ledger(cost_multiplier=1.0)
            assert stage.experts["strong"].started == 1

    virtual_run(main())


def test_commit_that_nobody_iterates_is_a_commit(virtual_run: Any, live: SimpleNamespace) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            session.commit(QUESTION)
            seen = []
            while (event := await session.next_event()) is not None:
                seen.append(event)
                if isinstance(event, events.ResponseDone):
                    break
            assert live.text_of(seen) == QUESTION.upper()
            assert session.conversation[-1].content == QUESTION.upper()

    virtual_run(main())


def test_commit_without_text_is_refused_at_the_call(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            with pytest.raises(InvalidRequest, match="the committed text is empty"):
                session.commit(" ")

    virtual_run(main())


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


def test_documents_freeze_when_the_text_says_enough_and_stand_before_it(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        retriever = live.retriever({"kestrel": "kestrel port 361", "wren": "wren port 7"})
        prompts: list[tuple[Message, ...]] = []

        def record(messages: tuple[Message, ...]) -> str:
            prompts.append(tuple(messages))
            return "ok"

        options = SessionOptions(pinned="strong", retrieval=True)
        async with (
            live.open_stage(strong(answer=record), retriever=retriever) as stage,
            stage.session(options) as session,
        ):
            await live.type_text(session, "of kestrel please give me the port number ")
            seen = await live.answer(session)
            stable = [e.stable for e in seen if isinstance(e, events.RetrievalUpdated)]
            assert stable[-1]
            assert [m.role for m in prompts[-1]] == ["documents", "user"]
            assert "kestrel port 361" in prompts[-1][0].content
            assert live.done_of(seen).timings.retrieval_lead_ms > 0

    virtual_run(main())


def test_passage_found_after_the_freeze_stands_behind_the_text(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        retriever = live.retriever({"kestrel": "kestrel port 361", "wren": "wren port 7"})
        prompts: list[tuple[Message, ...]] = []

        def record(messages: tuple[Message, ...]) -> str:
            prompts.append(tuple(messages))
            return "ok"

        options = SessionOptions(pinned="strong", retrieval=True, speculation="prefill")
        async with (
            live.open_stage(strong(answer=record), retriever=retriever) as stage,
            stage.session(options) as session,
        ):
            await live.type_text(session, "of kestrel please give me the port number ")
            await live.answer(session, "of kestrel please give me the port number and of wren")
            assert [m.role for m in prompts[-1]] == ["documents", "user", "documents"]
            assert "[2] wren port 7" in prompts[-1][2].content

    virtual_run(main())


@pytest.mark.parametrize("fault", ["broken", "slow"])
def test_dead_retrieval_answers_without_documents_and_says_so(
    virtual_run: Any, live: SimpleNamespace, fault: str
) -> None:
    async def main() -> None:
        retriever = live.retriever({"kestrel": "x"}, delay_s=30.0 if fault == "slow" else 0.01)
        retriever.broken = fault == "broken"
        options = SessionOptions(pinned="strong", retrieval=True)
        async with (
            live.open_stage(strong(), retriever=retriever) as stage,
            stage.session(options) as session,
        ):
            seen = await live.answer(session, QUESTION)
            done = live.done_of(seen)
            assert done.status == "completed"
            assert done.degraded == ("unreachable" if fault == "broken" else "timeout",)
            assert done.timings.ttft_ms < 1500

    virtual_run(main())


def test_second_turn_sees_the_first_and_its_documents(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        retriever = live.retriever({"kestrel": "kestrel port 361"})
        options = SessionOptions(pinned="strong", retrieval=True)
        async with (
            live.open_stage(strong(), retriever=retriever) as stage,
            stage.session(options) as session,
        ):
            await live.answer(session, "port of kestrel")
            await live.answer(session, "and now")
            roles = [message.role for message in session.conversation]
            assert roles == ["documents", "user", "assistant", "user", "assistant"]

    virtual_run(main())


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


def test_closed_session_ends_its_turn_and_leaves_nothing_running(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage:
            async with stage.session(PINNED) as session:
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


def test_text_typed_during_the_answer_belongs_to_the_next_turn(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            session.request_commit("first question here")
            session.append("second ")
            session.append("one")
            await asyncio.sleep(5)
            assert session.text == "second one"
            session.request_commit()
            await asyncio.sleep(5)
        assert [message.content for message in session.conversation] == [
            "first question here",
            "FIRST QUESTION HERE",
            "second one",
            "SECOND ONE",
        ]

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


def test_input_refused_changes_nothing(virtual_run: Any, live: SimpleNamespace) -> None:
    async def main() -> None:
        async with (
            live.open_stage(strong()) as stage,
            stage.session(PINNED, Limits(max_text_chars=10)) as session,
        ):
            session.replace("abc", 5)
            with pytest.raises(RevisionConflict, match="got 5, need more than 5"):
                session.replace("abcd", 5)
            with pytest.raises(PayloadTooLarge, match="11 characters, the limit is 10"):
                session.append("d" * 8)
            with pytest.raises(InvalidRequest, match="surrogate"):
                session.append("\ud800")
            assert (session.text, session.revision) == ("abc", 5)
            session.replace("  ")
            with pytest.raises(InvalidRequest, match="empty"):
                session.request_commit()
            session.request_commit("abc")
            with pytest.raises(InvalidRequest, match="in progress"):
                session.request_commit("abc")

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
            stage.session(options, warm_from=0.3) as session,
        ):
            either = RouteEstimate("likely", "likely", 0.5, (("late", 0.4),), final=0.2)
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


# ---- what is given up, and what is kept -------------------------------------------------------


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


def test_commit_after_a_cancel_while_the_text_was_retrieved_answers(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        retriever = live.retriever({"kestrel": "kestrel port 361"}, delay_s=0.3)
        async with (
            live.open_stage(strong(), retriever=retriever) as stage,
            stage.session(replace(PINNED, retrieval=True)) as session,
        ):
            session.replace(QUESTION)
            await asyncio.sleep(0.2)
            assert retriever.running == 1
            session.cancel()
            done = live.done_of(await live.answer(session))
            assert (done.status, done.degraded) == ("completed", ())
            assert session.conversation[0].role == "documents"

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


def test_pasted_text_after_a_clear_starts_a_new_typing_time(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            session.replace("a")
            session.clear()
            await asyncio.sleep(60)
            session.replace("a pasted question. ")
            done = live.done_of(await live.answer(session))
            assert done.timings.typing_ms == 0
            assert stage.experts["strong"].started == 1

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


# ---- retrieval at the commit --------------------------------------------------------------------


def test_degraded_result_of_the_same_text_is_retrieved_again_at_the_commit(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        retriever = live.retriever({"kestrel": "kestrel port 361"})
        async with (
            live.open_stage(strong(), retriever=retriever) as stage,
            stage.session(replace(PINNED, retrieval=True, speculation="prefill")) as session,
        ):
            retriever.broken = True
            session.replace(QUESTION)
            await asyncio.sleep(1)
            retriever.broken = False
            done = live.done_of(await live.answer(session))
            assert done.degraded == ()
            assert session.conversation[0].role == "documents"

    virtual_run(main())


def test_retrieval_under_way_is_not_begun_anew_by_the_commit(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        retriever = live.retriever({"kestrel": "kestrel port 361"}, delay_s=0.3)
        async with (
            live.open_stage(strong(), retriever=retriever) as stage,
            stage.session(replace(PINNED, retrieval=True)) as session,
        ):
            session.replace(QUESTION)
            await asyncio.sleep(0.28)
            done = live.done_of(await live.answer(session))
            assert (retriever.asked, done.degraded) == ([QUESTION], ())

    virtual_run(main())


def test_raising_retriever_degrades_the_answer_and_spares_the_session(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    class Raising:
        async def retrieve(self, query: str, **given: Any) -> RetrievalResult:
            raise RuntimeError("secret query")

        async def aclose(self) -> None:
            pass

    async def main() -> None:
        async with (
            live.open_stage(strong(), retriever=Raising()) as stage,
            stage.session(replace(PINNED, retrieval=True)) as session,
        ):
            for text in ("first one", "second one"):
                seen = await live.answer(session, text)
                assert live.done_of(seen).degraded == ("failed",)
                assert live.text_of(seen) == text.upper()

    virtual_run(main())


# ---- ledger, readers, ends -----------------------------------------------------------------------


def test_prefill_lead_is_unknown_when_only_another_expert_was_prefilled(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        fakes = (FakeExpert("fast", prefill_token_s=0.001), strong())
        async with (
            live.open_stage(*fakes, words={"zzz": "strong"}) as stage,
            stage.session(SessionOptions(speculation="prefill")) as session,
        ):
            session.replace("a b c d e f g h i j ")
            await asyncio.sleep(1)
            done = live.done_of(await live.answer(session))
            assert done.expert == "strong"
            assert done.ledger.prefill_wasted > 0
            assert done.timings.prefill_lead_ms is None

    virtual_run(main())


def test_reader_far_behind_is_refused_another_turn_and_loses_nothing(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with (
            live.open_stage(strong()) as stage,
            stage.session(PINNED, Limits(max_queued_events=10)) as session,
        ):
            for _ in range(2):
                session.request_commit("a b c")
                await asyncio.sleep(1)
            revision = session.revision
            with pytest.raises(Overloaded, match="reads too slowly"):
                session.request_commit("a b c")
            assert session.revision == revision
            assert not session.answering
        seen = [event async for event in session.events()]
        assert [type(e) for e in seen].count(events.ResponseDone) == len(stage.done) == 2
        assert live.text_of(seen) == "A B C" * 2

    virtual_run(main())


class ByText:
    """Answers each text after its own time, whatever deadline it is given."""

    def __init__(self, **delays_s: float) -> None:
        self.delays_s = {text.replace("_", " "): delay_s for text, delay_s in delays_s.items()}

    async def retrieve(
        self, query: str, *, revision: int, partial: bool, deadline_ms: float, session_id: str
    ) -> RetrievalResult:
        await asyncio.sleep(self.delays_s.get(query, 0.01))
        return RetrievalResult(revision, (Passage(query, "f.md", f"about {query}", 1.0),))

    async def aclose(self) -> None:
        pass


RETRIEVING = SessionOptions(retrieval=True, speculation="prefill")


def test_commit_of_a_shorter_text_takes_the_retrieval_that_runs_for_it(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    """A final transcript shorter than the last partial: a newer revision has been answered."""

    async def main() -> None:
        retriever = ByText(what_is_the_harbour=0.4, what_is_the_harbour_of=0.05)
        async with (
            live.open_stage(strong(), retriever=retriever) as stage,
            stage.session(RETRIEVING, pinned="strong", retrieval=True) as session,
        ):
            session.replace("what is the harbour ")
            await asyncio.sleep(0.1)
            session.replace("what is the harbour of ")
            await asyncio.sleep(0.15)
            began_s = asyncio.get_running_loop().time()
            seen = await live.answer(session, "what is the harbour")
            assert asyncio.get_running_loop().time() - began_s < 1.5
            done = live.done_of(seen)
            assert done.status == "completed"
            assert done.documents.before == ("what is the harbour",)

    virtual_run(main())


def test_update_retrieval_off_takes_the_passages_away(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        text = "what is the harbour of the big town on the coast "
        async with (
            live.open_stage(strong(), retriever=ByText()) as stage,
            stage.session(RETRIEVING, pinned="strong", retrieval=True) as session,
        ):
            session.replace(text)
            await asyncio.sleep(0.3)
            session.update(replace(RETRIEVING, retrieval=False))
            done = live.done_of(await live.answer(session))
            assert (done.documents.before, done.documents.behind) == ((), ())
            assert "about" not in "".join(message.content for message in session.conversation[:-1])

    virtual_run(main())


def test_retriever_that_ignores_its_deadline_does_not_hold_the_answer(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with (
            live.open_stage(strong(), retriever=ByText(hello_big_world=3.0)) as stage,
            stage.session(RETRIEVING, pinned="strong", retrieval=True) as session,
        ):
            began_s = asyncio.get_running_loop().time()
            stream = session.commit("hello big world")
            async for event in stream:
                if isinstance(event, events.ResponseTextDelta):
                    break
            waited_s = asyncio.get_running_loop().time() - began_s
            assert waited_s < Policy().retrieve_deadline_s + 0.05 + 0.5  # and the first token
            rest = [event async for event in stream]
            assert rest[-1].degraded == ("timeout",)

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
