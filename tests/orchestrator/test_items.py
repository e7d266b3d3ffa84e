"""The items of a session at work: what turns leave, what clients change, what the model sees."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.base import GenerationParams, Message
from livemind.backends.errors import ExpertUnavailable
from livemind.backends.fake import FakeExpert
from livemind.orchestrator import events, item_events
from livemind.orchestrator.conversation import ConversationRules
from livemind.orchestrator.errors import InvalidRequest, NotFound, PayloadTooLarge
from livemind.orchestrator.gate import SpeculationGate
from livemind.orchestrator.heard import SpokenWord
from livemind.orchestrator.item_events import Item
from livemind.orchestrator.options import Limits, SessionOptions

PINNED = SessionOptions(pinned="strong", speculation="off")


def strong(**given: Any) -> FakeExpert:
    return FakeExpert("strong", **{"prefill_token_s": 0.01, "token_s": 0.1, **given})


def said(session: Any) -> list[str]:
    return [message.content for message in session.conversation]


def last(session: Any) -> Item:
    items: list[Item] = list(session.items)
    return items[-1]


def test_turn_tells_of_its_items_in_the_order_of_the_realtime_api(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            seen = await live.answer(session, "one two")
            kinds = [e.type for e in seen if not isinstance(e, events.ResponseTextDelta)]
            assert kinds == [
                "conversation.item.added",
                "conversation.item.done",
                "response.created",
                "conversation.item.added",
                "response.output_text.done",
                "conversation.item.done",
                "response.done",
            ]
            added = [e for e in seen if isinstance(e, item_events.ItemAdded)]
            done = [e for e in seen if isinstance(e, item_events.ItemDone)]
            created = next(e for e in seen if isinstance(e, events.ResponseCreated))
            assert added[1].item.id == created.item_id == done[1].item.id
            assert added[1].previous_item_id == added[0].item.id
            assert (added[1].item.status, done[1].item.status) == ("in_progress", "completed")
            assert done[1].item.content == (item_events.ItemContent("output_text", "ONE TWO"),)
            assert events.to_wire(added[0])["item"] == {
                "id": added[0].item.id,
                "role": "user",
                "status": "completed",
                "content": ({"type": "input_text", "text": "one two"},),
                "type": "message",
                "object": "realtime.item",
            }

    virtual_run(main())


@pytest.mark.parametrize(
    ("after_s", "left", "status"),
    [
        (0.0, ["one two three"], None),
        (0.03, ["one two three"], "incomplete"),
        (0.2, ["one two three", "ONE TWO"], "incomplete"),
    ],
)
def test_cancelled_turn_keeps_what_was_said_and_shown(
    virtual_run: Any, live: SimpleNamespace, after_s: float, left: list[str], status: str | None
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            if status is None:
                stage.router.delay_s = 1.0
                session.update(replace(PINNED, pinned=None))
            session.request_commit("one two three")
            await asyncio.sleep(after_s)
            session.cancel()
            await asyncio.sleep(1)
            assert said(session) == left
            assert last(session).status == (status or "completed")

    virtual_run(main())


def test_failed_turn_keeps_what_was_said_and_the_next_one_sees_it(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        expert = strong()
        async with live.open_stage(expert) as stage, stage.session(PINNED) as session:
            expert.refuse = ExpertUnavailable("strong", "gone")
            done = live.done_of(await live.answer(session, "one"))
            assert done.status == "failed"
            expert.refuse = None
            await live.answer(session, "two")
            assert said(session) == ["one", "two", "TWO"]

    virtual_run(main())


def test_truncated_answer_is_what_the_next_turn_sees(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            await live.answer(session, "one two three")
            words = [SpokenWord("ONE", 0, 200), SpokenWord("TWO", 200, 400)]
            cut = session.items.truncate(last(session).id, audio_end_ms=450, words=words)
            assert (cut.text, cut.status) == ("ONE TWO", "incomplete")
            seen = await live.answer(session, "four")
            assert seen[0] == item_events.ItemTruncated(cut.id, 7, 450)
            assert said(session) == ["one two three", "ONE TWO", "four", "FOUR"]

    virtual_run(main())


def test_truncation_of_a_running_answer_stops_it_and_keeps_what_was_heard(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            session.request_commit("one two three four five")
            await asyncio.sleep(0.35)
            running = last(session)
            assert (running.status, running.text) == ("in_progress", "ONE TWO THREE")
            session.items.truncate(running.id, 3)
            assert last(session).text == "ONE"
            await asyncio.sleep(1)
            assert [done.status for done in stage.done] == ["cancelled"]
            assert said(session) == ["one two three four five", "ONE"]
            assert (last(session).id, last(session).status) == (running.id, "incomplete")

    virtual_run(main())


def test_truncation_that_says_not_how_much_or_of_what_is_refused_by_name(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            await live.answer(session, "one two")
            with pytest.raises(InvalidRequest, match="characters or audio_end_ms: missing"):
                session.items.truncate(last(session).id)
            with pytest.raises(InvalidRequest, match="got 99, the item has 7"):
                session.items.truncate(last(session).id, 99)
            with pytest.raises(NotFound, match="item_id: no such item"):
                session.items.truncate("item_none", 1)

    virtual_run(main())


def test_created_and_deleted_items_change_what_the_model_sees(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with (
            live.open_stage(strong()) as stage,
            stage.session(PINNED, Limits(max_text_chars=20)) as session,
        ):
            session.items.create(Item("a", "assistant", "Hello!"))
            session.items.create(Item("b", "user", "Hi"), "root")
            assert said(session) == ["Hi", "Hello!"]
            session.items.delete("b")
            await live.answer(session, "one")
            assert said(session) == ["Hello!", "one", "ONE"]
            with pytest.raises(PayloadTooLarge, match="21 characters, the limit is 20"):
                session.items.create(Item("c", "user", "x" * 21))

    virtual_run(main())


def test_deleting_a_running_answer_stops_it(virtual_run: Any, live: SimpleNamespace) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            session.request_commit("one two three four five")
            await asyncio.sleep(0.35)
            session.items.delete(last(session).id)
            await asyncio.sleep(1)
            assert [done.status for done in stage.done] == ["cancelled"]
            assert said(session) == ["one two three four five"]

    virtual_run(main())


def test_item_created_while_a_turn_is_answered_stands_behind_it(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            session.request_commit("one two")
            session.items.create(Item("a", "system", "Be brief."))
            await asyncio.sleep(1)
            assert [item.text for item in session.items] == ["one two", "ONE TWO", "Be brief."]

    virtual_run(main())


def test_items_that_are_changed_re_prepare_the_text_that_is_typed(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        options = replace(PINNED, speculation="draft")
        async with live.open_stage(strong()) as stage, stage.session(options) as session:
            session.replace("one two?")
            await asyncio.sleep(1)
            session.items.create(Item("a", "assistant", "Hello!"))
            await asyncio.sleep(1)
            seen = await live.answer(session)
            lost = [e.reason for e in seen if isinstance(e, events.DraftDiscarded)]
            assert lost == ["changed: messages"]
            assert live.done_of(seen).ledger.draft_adopted == 2

    virtual_run(main())


def test_seeded_history_over_a_bound_is_refused_with_it(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        rules = ConversationRules(max_items=4)
        async with (
            live.open_stage(strong()) as stage,
            stage.session(PINNED, Limits(conversation=rules)) as session,
        ):
            history = [Message("user", str(number)) for number in range(5)]
            with pytest.raises(InvalidRequest, match=r"5 items, the limit is 4 \(conversation\."):
                session.update(PINNED, history)
            session.update(PINNED, history[:4])
            seen = await live.answer(session, "one")
            gone = [e.item_id for e in seen if isinstance(e, item_events.ItemDeleted)]
            assert len(gone) == 2
            assert said(session) == ["2", "3", "one", "ONE"]

    virtual_run(main())


# ---- a full context ------------------------------------------------------------------------------


def test_call_of_three_hundred_turns_with_retrieval_stays_within_the_context(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        limit = 4096
        longest = 0

        class Counting(FakeExpert):
            def render(self, messages: Any, *, open_turn: bool) -> Any:
                nonlocal longest
                prompt = super().render(messages, open_turn=open_turn)
                longest = max(longest, prompt.num_tokens)
                return prompt

        texts = {f"k{number}": f"about{number} " * 100 for number in range(300)}
        expert = Counting("strong", block_tokens=16, token_s=0.01, max_model_len=limit)
        async with live.open_stage(expert, retriever=live.retriever(texts)) as stage:
            stage.shared.gate = SpeculationGate(1024, 256, 25)
            options = SessionOptions(
                pinned="strong", retrieval=True, params=GenerationParams(max_tokens=20)
            )
            async with stage.session(options) as session:
                trimmed = []
                for number in range(300):
                    text = f"tell me all that is known of k{number} please"
                    if number % 3 == 0:
                        session.replace(text + " ")
                        await asyncio.sleep(0.5)
                    seen = await live.answer(session, text)
                    done = live.done_of(seen)
                    assert (done.status, done.degraded) == ("completed", ())
                    assert done.documents.before == (f"k{number}",)
                    assert done.usage.prompt_tokens + 20 <= limit
                    trimmed += [e for e in seen if isinstance(e, item_events.ConversationTrimmed)]
                assert 3 < len(trimmed) < 60
                assert limit // 4 < longest < limit
                assert len(session.items) == 600

    virtual_run(main())


def test_full_context_that_refuses_fails_the_turn(virtual_run: Any, live: SimpleNamespace) -> None:
    async def main() -> None:
        limits = Limits(conversation=ConversationRules(overflow="refuse"))
        async with (
            live.open_stage(strong(max_model_len=60)) as stage,
            stage.session(PINNED, limits) as session,
        ):
            done = [live.done_of(await live.answer(session, "w " * 10)) for _ in range(4)]
            assert [d.status for d in done] == ["completed", "completed", "failed", "failed"]
            assert done[-1].error.code == "context_length_exceeded"

    virtual_run(main())


def test_text_too_long_for_any_context_leaves_the_conversation_whole(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with (
            live.open_stage(strong(max_model_len=60)) as stage,
            stage.session(PINNED) as session,
        ):
            await live.answer(session, "one two")
            done = live.done_of(await live.answer(session, "w " * 70))
            assert done.error.code == "context_length_exceeded"
            assert said(session)[:2] == ["one two", "ONE TWO"]

    virtual_run(main())


def test_context_of_a_smaller_expert_is_kept_at_the_commit(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        small = FakeExpert("small", max_model_len=64)
        async with live.open_stage(small, strong()) as stage, stage.session(PINNED) as session:
            for number in range(5):
                await live.answer(session, f"{number} " * 8)
            session.update(replace(PINNED, pinned="small"))
            seen = await live.answer(session, "last one")
            done = live.done_of(seen)
            assert (done.status, done.expert) == ("completed", "small")
            assert any(isinstance(event, item_events.ConversationTrimmed) for event in seen)

    virtual_run(main())
