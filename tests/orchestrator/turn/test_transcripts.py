"""Transcripts that come late: which turn they belong to, and when they are the same speech."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.fake import FakeExpert
from livemind.orchestrator import events, item_events
from livemind.orchestrator.errors import InvalidRequest
from livemind.orchestrator.options import SessionOptions
from livemind.orchestrator.turn.transcripts import LATE_TRANSCRIPT_S, CommittedTurns

PINNED = SessionOptions(pinned="strong", speculation="off")
QUESTION = "What is the port, please?"
LATE = "what is the port please"


def strong(**given: Any) -> FakeExpert:
    return FakeExpert("strong", **{"token_s": 0.1, **given})


def test_repeated_text_counts_as_late_only_right_after_its_commit() -> None:
    turns = CommittedTurns()
    assert not turns.repeats(LATE, 0.0, answering=False)
    turns.committed("resp_1", QUESTION, 10.0)
    late_s = 10.0 + LATE_TRANSCRIPT_S
    assert turns.repeats(LATE, late_s, answering=False)
    assert not turns.repeats(LATE, late_s + 0.1, answering=False)
    assert turns.repeats(LATE, late_s + 60, answering=True)
    assert not turns.repeats("", late_s, answering=True)
    turns.new_text()
    assert not turns.repeats(LATE, late_s, answering=True)


def test_turn_is_known_by_its_number_and_its_id() -> None:
    turns = CommittedTurns()
    turns.committed("resp_1", "a", 0.0)
    assert turns.has("resp_1", "resp_2")
    assert turns.has(0, "resp_2")
    assert not any(turns.has(turn_id, "resp_2") for turn_id in (None, "resp_2", 1))
    for unknown in (2, "resp_9"):
        with pytest.raises(InvalidRequest, match="turn_id: no such turn; the one being typed is 1"):
            turns.has(unknown, "resp_2")


def ignored(stage_events: list[events.Event]) -> list[str]:
    return [event.reason for event in stage_events if isinstance(event, item_events.InputIgnored)]


@pytest.mark.parametrize("answering", [True, False])
@pytest.mark.parametrize("how", ["replace", "append"])
def test_transcript_of_a_committed_turn_does_not_become_the_next_question(
    virtual_run: Any, live: SimpleNamespace, how: str, answering: bool
) -> None:
    async def main() -> None:
        options = replace(PINNED, speculation="draft", interrupt="input")
        expert = strong(token_s=0.1 if answering else 0.0)
        async with live.open_stage(expert) as stage, stage.session(options) as session:
            session.request_commit(QUESTION)
            await asyncio.sleep(0.15)
            assert session.answering is answering
            getattr(session, how)(LATE)
            assert session.text == ""
            await asyncio.sleep(2)
            assert [done.status for done in stage.done] == ["completed"]
            assert expert.generated_tokens == 5
            seen = await live.answer(session, "next one")
            assert ignored(seen) == ["late_transcript"]

    virtual_run(main())


def test_same_question_asked_again_is_answered_again(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            for _ in range(3):
                session.replace("yes")
                assert live.text_of(await live.answer(session)) == "YES"
            for letter in "yes":
                session.append(letter)
            assert session.text == "yes"

    virtual_run(main())


def test_text_that_names_a_committed_turn_is_passed_over_without_an_error(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            first = session.turn_id
            session.append("what is", turn_id=first)
            assert session.request_commit("what is it?") == first
            session.append(" it", turn_id=first)
            session.replace("what is that", 99, turn_id=0)
            assert (session.text, session.revision) == ("", 99)
            session.append("and this?", turn_id=session.turn_id)
            assert session.turn_id != first
            await asyncio.sleep(2)
            assert session.text == "and this?"
            session.append(" now", turn_id=1)
            seen = await live.answer(session)
            assert live.text_of(seen).endswith("AND THIS? NOW")
            assert ignored(seen) == ["turn_over"] * 2
            with pytest.raises(InvalidRequest, match="turn_id"):
                session.append("x", turn_id=7)

    virtual_run(main())


@pytest.mark.parametrize(
    ("interrupt", "statuses"),
    [(None, ["completed"]), ("commit", ["completed"]), ("input", ["cancelled"])],
)
def test_new_text_stops_a_running_answer_where_the_session_says_so(
    virtual_run: Any, live: SimpleNamespace, interrupt: Any, statuses: list[str]
) -> None:
    async def main() -> None:
        options = replace(PINNED, interrupt=interrupt)
        async with live.open_stage(strong()) as stage, stage.session(options) as session:
            session.request_commit("one two three four")
            await asyncio.sleep(0.15)
            session.append("wait")
            await asyncio.sleep(2)
            assert [done.status for done in stage.done] == statuses
            assert session.text == "wait"
            texts = [item.text for item in session.items]
            assert texts[1] == ("ONE TWO" if interrupt == "input" else "ONE TWO THREE FOUR")

    virtual_run(main())
