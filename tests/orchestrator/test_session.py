"""Sessions on fake experts and a virtual clock: the way of a turn, rule by rule."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from livemind.backends.base import GenerationParams, Message
from livemind.backends.errors import ExpertUnavailable
from livemind.backends.fake import FakeExpert
from livemind.orchestrator import events
from livemind.orchestrator.errors import InvalidRequest, PayloadTooLarge, RevisionConflict
from livemind.orchestrator.session import Limits, SessionOptions

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


def test_documents_freeze_when_two_results_agree_and_stand_before_the_text(
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
            await live.type_text(session, "of kestrel give me the port number ")
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
            await live.type_text(session, "of kestrel give me the port number ")
            await live.answer(session, "of kestrel give me the port number and of wren")
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
