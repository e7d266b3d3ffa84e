"""Items that are created first and answered later: where they stand, what stays prepared."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.fake import FakeExpert
from livemind.orchestrator import events, item_events
from livemind.orchestrator.conversation import ConversationRules
from livemind.orchestrator.errors import InvalidRequest
from livemind.orchestrator.item_events import Item
from livemind.orchestrator.options import Limits, SessionOptions

PINNED = SessionOptions(pinned="strong", speculation="off")


def strong() -> FakeExpert:
    return FakeExpert("strong", prefill_token_s=0.01, token_s=0.1)


def texts(session: Any) -> list[str]:
    return [item.text for item in session.items]


def said(session: Any) -> list[str]:
    return [message.content for message in session.conversation]


def test_proposed_item_leaves_the_draft_of_its_text_and_is_told_once(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        options = replace(PINNED, speculation="draft")
        async with live.open_stage(strong()) as stage, stage.session(options) as session:
            session.replace("one two?")
            await asyncio.sleep(1)
            session.items.propose(Item("a", "user", "one two?"))
            assert (texts(session), said(session)) == (["one two?"], [])
            session.request_commit("one two?", item_id="a")
            seen = []
            async for event in session.events():
                seen.append(event)
                if isinstance(event, events.ResponseDone):
                    break
            assert live.done_of(seen).ledger.draft_adopted == 2
            assert not [e for e in seen if isinstance(e, events.DraftDiscarded)]
            added = [e.item.id for e in seen if isinstance(e, item_events.ItemAdded)]
            assert (added[0], len(added)) == ("a", 2)
            assert said(session) == ["one two?", "ONE TWO?"]

    virtual_run(main())


def test_proposed_item_that_another_commit_passes_stands_before_it(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            session.items.propose(Item("a", "user", "first"))
            assert session.items.retrieve("a").text == "first"
            await live.answer(session, "second")
            assert said(session) == ["first", "second", "SECOND"]
            assert session.items.proposed is None

    virtual_run(main())


def test_items_of_waiting_commits_begin_in_their_order(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            for name in ("a", "b", "c"):
                session.items.propose(Item(name, "user", f"{name} {name}"))
                session.request_commit(f"{name} {name}", item_id=name)
            session.items.delete("b")
            with pytest.raises(InvalidRequest, match="an item with this id"):
                session.items.propose(Item("c", "user", "again"))
            await asyncio.sleep(2)
            assert [done.status for done in stage.done] == ["cancelled", "cancelled", "completed"]
            assert [text for text in texts(session) if text] == ["a a", "c c", "C C"]
            assert [item.id for item in session.items if item.role == "user"] == ["a", "c"]

    virtual_run(main())


def test_full_conversation_makes_room_for_a_proposed_item(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        limits = Limits(conversation=ConversationRules(max_items=4))
        async with live.open_stage(strong()) as stage, stage.session(PINNED, limits) as session:
            await live.answer(session, "one")
            for name in ("a", "b"):
                session.items.propose(Item(name, "user", name))
                session.request_commit(name, item_id=name)
                await asyncio.sleep(1)
            assert texts(session) == ["a", "A", "b", "B"]

    virtual_run(main())


def test_last_question_is_reopened_and_an_answered_one_is_not(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            assert session.items.reopen() is None
            await live.answer(session, "one")
            assert session.items.reopen() is None
            [question, answer] = session.items
            session.items.delete(answer.id)
            assert session.items.reopen().id == question.id
            assert (texts(session), said(session)) == (["one"], [])
            session.request_commit("one", item_id=question.id)
            await asyncio.sleep(1)
            assert next(item.id for item in session.items) == question.id
            assert said(session) == ["one", "ONE"]

    virtual_run(main())
