"""What the planner makes of a recogniser's partial and final transcripts."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.base import Message
from livemind.orchestrator.routing.estimate import RouteEstimate
from livemind.orchestrator.turn import planner
from livemind.orchestrator.turn.partials import InputHabits
from livemind.orchestrator.turn.passages.documents import DocumentState
from livemind.orchestrator.turn.values import (
    Answer,
    DropDraft,
    Emit,
    Prefill,
    Retrieve,
    Route,
    SetTimer,
    StartDraft,
    TurnState,
)
from livemind.rag.base import RetrievalResult

from .turn_states import POLICY, drafted, of, passage, routed, turn


def said(text: str, typed_s: float = 1.0, **given: Any) -> TurnState:
    """Return a turn whose text comes from a recogniser."""
    policy = {"input_kind": "transcript", **given.pop("policy", {})}
    return turn(text, typed_s, policy=policy, **given)


PARTIALS = ["what", "what is", "what is the", "what is the port", "what is the port of ruby"]


@pytest.mark.parametrize("kind", [None, "transcript"])
@pytest.mark.parametrize("end", ["", " "])
def test_partials_are_looked_at_with_and_without_a_blank_behind_them(kind: Any, end: str) -> None:
    state, asked = turn(policy={"input_kind": kind, "retrieval": True}), []
    for number, text in enumerate(PARTIALS):
        state, actions = planner.on_text(state, text + end, number + 1, 0.1 * number)
        asked += [action.text for action in of(actions, Route)]
    assert asked[-1] in PARTIALS[-2:]
    assert len(asked) >= len(PARTIALS) - 2


def test_debounced_typing_is_looked_at_word_by_word() -> None:
    state, asked = turn(), []
    for number, text in enumerate(["wh", "what i", "what is th", "what is the po", "what is the "]):
        state, actions = planner.on_text(state, text, number + 1, 0.2 * number)
        asked += [action.text for action in of(actions, Route)]
    assert asked == ["what", "what is", "what is the"]


def test_transcript_is_drafted_once_it_has_stood_for_longer_than_changes_take() -> None:
    state = said("")
    for number in range(4):  # the recogniser's marks end no sentence
        state, _ = planner.on_text(state, f"{PARTIALS[number]}.", number, number * 0.4)
    state = routed(state)
    _, early = planner.on_timer(state, 1.2 + 0.43)
    _, late = planner.on_timer(state, 1.2 + 0.45)
    assert (len(of(early, StartDraft)), len(of(late, StartDraft))) == (0, 1)


GROWS = InputHabits(4, (0.4,), (0, 0, 0))
REWRITES = InputHabits(4, (0.4,), (0, 2, 0))


@pytest.mark.parametrize(
    ("words", "habits", "before", "frozen"),
    [
        (4, GROWS, "b", False),
        (5, GROWS, "b", True),
        (5, REWRITES, "b", False),
        (5, REWRITES, "a", True),
    ],
    ids=["too short", "only grows", "rewritten", "rewritten, same documents"],
)
def test_transcript_that_stands_shortly_has_its_documents_prepared(
    words: int, habits: InputHabits, before: str, frozen: bool
) -> None:
    text = " ".join(PARTIALS[-1].split()[:words])
    docs = DocumentState(seen_text="what", last=(passage(before),))
    state = routed(said(text, 1.0, policy={"retrieval": True}, habits=habits, docs=docs))
    found = RetrievalResult(1, (passage("a"),))
    state, actions = planner.on_retrieval(state, text, found, None, 1.02)
    assert state.docs.frozen is None
    state, actions = planner.on_timer(state, 1.0 + POLICY.sentence_pause_s)
    assert (state.docs.frozen is not None) is frozen
    prepared = [p.messages[0].role == "documents" for p in of(actions, Prefill)]
    assert any(prepared) is frozen
    assert of(actions, StartDraft) == []


@pytest.mark.parametrize(("before", "drafts"), [("a", 1), ("b", 0)])
def test_transcript_whose_documents_stayed_is_drafted_before_a_change_is_overdue(
    before: str, drafts: int
) -> None:
    docs = DocumentState(seen_text="what", last=(passage(before),), frozen=(passage("a"),))
    habits = InputHabits(4, (0.4, 0.4))
    state = said(PARTIALS[-1], 1.0, policy={"retrieval": True}, habits=habits, docs=docs)
    found = RetrievalResult(1, (passage("a"),))
    state, actions = planner.on_retrieval(routed(state), PARTIALS[-1], found, None, 1.19)
    assert [of(actions, SetTimer)[-1].at_s] == [pytest.approx(1.2 if drafts else 1.25)]
    _, actions = planner.on_timer(state, 1.21)
    assert len(of(actions, StartDraft)) == drafts


def test_transcript_route_settles_once_its_speaker_has_paused() -> None:
    state = said("what is it", 1.0, habits=InputHabits(4, (0.3, 0.3)))
    estimate = RouteEstimate("strong", "d", 0.5, final=0.4)
    state, actions = planner.on_route(state, "what is it", estimate, 1.02)
    assert [emit.event.stable for emit in of(actions, Emit)] == [False]
    state, actions = planner.on_timer(state, 1.25)
    assert of(actions, Emit) == []
    state, actions = planner.on_timer(state, 1.35)
    assert [emit.event.stable for emit in of(actions, Emit)] == [True]
    assert of(actions, Prefill)[-1].experts == ("strong",)


def test_transcript_route_that_comes_after_the_pause_is_settled() -> None:
    state = said("what is it", 1.0, habits=InputHabits(4, (0.3, 0.3)))
    estimate = RouteEstimate("strong", "d", 0.5, final=0.4)
    _, actions = planner.on_route(state, "what is it", estimate, 1.35)
    assert [emit.event.stable for emit in of(actions, Emit)] == [True]


@pytest.mark.parametrize("final", ["What is the port of Ruby?", "what is  the port, of ruby."])
def test_commit_of_the_same_words_asks_for_no_other_documents(final: str) -> None:
    policy = {"retrieval": True, "pinned": "strong"}
    state, actions = planner.on_text(said("", policy=policy), PARTIALS[-1], 1, 1.0)
    [asked] = [*of(actions, Retrieve), *of(planner.on_timer(state, 1.25)[1], Retrieve)]
    state, _ = planner.on_retrieval(
        state, asked.text, RetrievalResult(1, (passage("a"),)), None, 1.1
    )
    _, actions = planner.on_commit(state, final, 2, 1.3)
    assert of(actions, Retrieve) == []
    assert [answer.documents.before for answer in of(actions, Answer)] == [("a",)]


@pytest.mark.parametrize("text", ["?!", "。", "{ }"])
def test_commit_of_marks_alone_is_looked_up_as_it_is(text: str) -> None:
    policy = {"retrieval": True, "pinned": "strong"}
    _, actions = planner.on_commit(turn(policy=policy), text, 1, 1.0)
    assert [asked.text for asked in of(actions, Retrieve)] == [text]


def test_pause_prepares_the_newest_documents_although_others_are_frozen() -> None:
    docs = DocumentState(seen_text="what is it", last=(passage("b"),), frozen=(passage("a"),))
    state = routed(
        turn("what is it", 1.0, policy={"retrieval": True, "mode": "prefill"}, docs=docs)
    )
    state, actions = planner.on_timer(state, 2.0)
    assert state.docs.frozen == (passage("b"),)
    assert "text of b" in of(actions, Prefill)[-1].messages[0].content


def test_transcript_route_settles_when_confident_estimates_agree() -> None:
    state = said("", policy={"stable_confidence": 0.5})
    stable = []
    for number, text in enumerate(PARTIALS[:3]):
        state, _ = planner.on_text(state, text, number, 0.2 * number)
        estimate = RouteEstimate("strong", "d", 0.6, final=0.4)
        state, actions = planner.on_route(state, text, estimate, 0.2 * number)
        stable.append(of(actions, Emit)[0].event.stable)
    assert stable == [False, False, True]


def test_transcript_written_otherwise_is_still_the_same_text() -> None:
    state = said("what is the port", 1.0)
    state, _ = planner.on_text(state, "What is the port?", 2, 1.3)
    assert state.last_input_s == 1.0


def test_transcript_keeps_a_begun_draft_until_another_is_due() -> None:
    state = replace(drafted(routed(said("what is it", 1.0))), draft_started=True)
    first = state.draft
    state, actions = planner.on_text(state, "what is in", 2, 1.2)
    assert (of(actions, DropDraft), state.draft) == ([], first)
    back, _ = planner.on_text(state, "what is it", 3, 1.4)
    back, actions = planner.on_commit(routed(back), "what is it", 4, 1.5)
    assert [answer.draft_id for answer in of(actions, Answer)] == ["r1.d1"]
    state, actions = planner.on_timer(routed(state), 2.0)
    assert [drop.reason for drop in of(actions, DropDraft)] == ["newer text"]
    assert len(of(actions, StartDraft)) == 1


def test_transcript_drops_a_draft_that_has_not_begun() -> None:
    state = drafted(routed(said("what is it", 1.0)))
    state, actions = planner.on_text(state, "what is in", 2, 1.2)
    assert [drop.reason for drop in of(actions, DropDraft)] == ["input changed"]


@pytest.mark.parametrize(
    ("equal", "final", "adopted"),
    [
        ("exact", "What is it?", None),
        ("formatted", "What is it?", "r1.d1"),
        ("formatted", "What is that?", None),
    ],
)
def test_commit_written_otherwise_adopts_the_draft_where_that_counts_as_equal(
    equal: str, final: str, adopted: str | None
) -> None:
    state = said("what is it", 1.0, policy={"transcripts_equal": equal, "pinned": "strong"})
    _, actions = planner.on_commit(drafted(state), final, 2, 2.0)
    [answer] = of(actions, Answer)
    assert answer.draft_id == adopted
    assert answer.messages == (Message("user", final),)


def test_transcript_is_prefilled_without_the_words_that_may_change() -> None:
    habits = InputHabits(6, (0.4,), (2, 2, 0, 2))
    state = said("one two three", 1.0, habits=habits)
    _, actions = planner.on_text(state, "one two three four", 2, 1.4)
    [prefill] = of(actions, Prefill)
    assert prefill.messages == (Message("user", "one two "),)
