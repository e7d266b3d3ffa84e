"""Turns of a session from the first character to the end of the answer."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from livemind.backends.base import TokenPrompt
from livemind.backends.fake import FakeExpert
from livemind.backends.rendering import LONG_CHARS
from livemind.orchestrator import events
from livemind.orchestrator.errors import (
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    RevisionConflict,
)
from livemind.orchestrator.item_events import ConversationTrimmed
from livemind.orchestrator.session import Limits, SessionOptions

from .conftest import PINNED, QUESTION, strong


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


def test_commit_without_text_is_refused_at_the_call(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            with pytest.raises(InvalidRequest, match="the committed text is empty"):
                session.commit(" ")

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

    virtual_run(main())


def test_reader_far_behind_is_refused_another_turn_and_loses_nothing(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with (
            live.open_stage(strong()) as stage,
            stage.session(PINNED, Limits(max_queued_events=18)) as session,
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


def test_long_turn_that_may_not_fit_is_counted_beside_the_event_loop(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    """Neither the prompt nor the search for what has to leave holds the loop up."""
    threads: set[str] = set()

    class Watched(FakeExpert):
        def render(self, messages: Any, *, open_turn: bool) -> TokenPrompt:
            if sum(len(message.content) for message in messages) > LONG_CHARS:
                threads.add(threading.current_thread().name)
            return super().render(messages, open_turn=open_turn)

    async def main() -> None:
        expert = Watched("strong", answer=lambda messages: "so", max_model_len=12_000)
        async with live.open_stage(expert) as stage, stage.session(PINNED) as session:
            for words in (4_000, 4_000, 6_000):
                seen = await live.answer(session, "word " * words)
                assert live.done_of(seen).status == "completed"
            trimmed = [event for event in seen if isinstance(event, ConversationTrimmed)]
            assert [event.items for event in trimmed] == [2]

    virtual_run(main())
    assert threads
    assert threading.main_thread().name not in threads
