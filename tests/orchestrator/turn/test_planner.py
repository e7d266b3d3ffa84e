"""The planner's rules, one by one: state and event in, actions out; no loop, no clock."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from msgspec.structs import replace

from livemind.backends.base import Image, Message
from livemind.orchestrator.errors import ErrorInfo
from livemind.orchestrator.events import RetrievalUpdated, RouteUpdated
from livemind.orchestrator.routing.estimate import RouteEstimate
from livemind.orchestrator.turn import planner
from livemind.orchestrator.turn.documents import DocumentState
from livemind.orchestrator.turn.partials import InputHabits
from livemind.orchestrator.turn.prompt import Context, build
from livemind.orchestrator.turn.values import (
    Action,
    Answer,
    DraftState,
    DropDraft,
    Emit,
    EndTurn,
    Policy,
    Prefill,
    Retrieve,
    Route,
    RouteState,
    SetTimer,
    StartDraft,
    StopAnswer,
    StopSpeculation,
    TurnState,
    Wake,
)
from livemind.rag.base import Passage, RetrievalResult

POLICY = Policy(fast="fast")
FAILURE = ErrorInfo(504, "too late", "timeout", None, "timeout")
EMPTY = RetrievalResult(1, ())


def turn(text: str = "", typed_s: float = 0.0, **given: Any) -> TurnState:
    """Return a turn whose first input was at 0 and whose last was at ``typed_s``."""
    policy = replace(POLICY, **given.pop("policy", {}))
    state = TurnState(policy, given.pop("context", Context()), "r1", **given)
    if not text:
        return state
    return replace(state, text=text, revision=1, first_input_s=0.0, last_input_s=typed_s)


def routed(state: TurnState, expert: str = "strong", stable: bool = True) -> TurnState:
    estimate = RouteEstimate(expert, expert, 0.9)
    return replace(state, route=RouteState(estimate, state.text.strip(), 2, stable))


def drafted(state: TurnState, expert: str = "strong") -> TurnState:
    messages = build(state.context, state.text)
    return replace(state, draft=DraftState("r1.d1", expert, 1, messages), drafts_made=1)


def of(actions: list[Action], kind: type[Any]) -> list[Any]:
    return [action for action in actions if isinstance(action, kind)]


def kinds(actions: list[Action]) -> set[type]:
    return {type(action) for action in actions}


def passage(name: str) -> Passage:
    return Passage(name, f"{name}.md", f"text of {name}", 1.0)


# ---- input --------------------------------------------------------------------------------------


def test_first_text_before_the_start_delay_only_sets_the_timer() -> None:
    _, actions = planner.on_text(turn(), "a whole pasted question? ", 1, 5.0)
    assert actions == [SetTimer(5.03)]


def test_pasted_commit_answers_without_speculating() -> None:
    state, _ = planner.on_text(turn(policy={"pinned": "strong"}), "pasted text.", 1, 5.0)
    _, actions = planner.on_commit(state, "pasted text.", 2, 5.0)
    assert kinds(actions) == {SetTimer, StopSpeculation, Answer}


def test_completed_word_after_the_start_delay_routes_and_prefills() -> None:
    _, actions = planner.on_text(turn("hello", 1.0), "hello ", 2, 1.1)
    assert of(actions, Route) == [Route("hello")]
    expected = Prefill(("fast",), (Message("user", "hello "),), 2, POLICY.max_prefill_tokens)
    assert of(actions, Prefill) == [expected]


@pytest.mark.parametrize("end", [" ", "\n", ".", "?", "、", "。"])
def test_word_end_of_any_script_is_looked_at_at_once(end: str) -> None:
    _, actions = planner.on_text(turn("wort", 1.0), f"wort{end}", 2, 1.1)
    assert of(actions, Route) == [Route(f"wort{end}".strip())]


def test_partial_word_waits_for_the_settle_timer() -> None:
    before = turn("hello wor", 1.0, looked_at="hello")
    state, actions = planner.on_text(before, "hello worl", 2, 1.1)
    assert actions == [SetTimer(1.1 + POLICY.settle_s)]
    assert state.timer_s == 1.1 + POLICY.settle_s


def test_settle_timer_looks_at_a_partial_word() -> None:
    _, actions = planner.on_timer(turn("hello worl", 1.0), 1.0 + POLICY.settle_s)
    assert of(actions, Route) == [Route("hello worl")]


def test_timer_before_the_pause_leaves_a_partial_word_alone() -> None:
    before = turn("hello worl", 1.0, looked_at="hello")
    _, actions = planner.on_timer(before, 1.0 + POLICY.settle_s - 0.01)
    assert kinds(actions) == {SetTimer}


def test_start_delay_timer_looks_at_a_completed_word() -> None:
    _, actions = planner.on_timer(turn("hello ", 0.0), 0.03)
    assert of(actions, Route) == [Route("hello")]


@pytest.mark.parametrize("phase", ["resolving", "answering", "ended"])
def test_timer_after_the_commit_does_nothing(phase: Any) -> None:
    _, actions = planner.on_timer(turn("hello ", 0.0, phase=phase), 9.0)
    assert actions == []


def test_speculation_off_does_nothing_while_typing() -> None:
    state = turn("hello", 0.0, policy={"mode": "off"})
    state, typed = planner.on_text(state, "hello world. ", 2, 5.0)
    _, paused = planner.on_timer(state, 9.0)
    assert (typed, paused) == ([], [])


def test_cleared_text_takes_its_documents_along() -> None:
    state = replace(turn("a question ", 0.1), docs=DocumentState(frozen=(passage("a"),)))
    state, _ = planner.on_text(state, "", 2, 0.2)
    assert state.docs == DocumentState()


def test_cleared_text_clears_the_timer() -> None:
    state = replace(turn("hello", 0.0), timer_s=0.4)
    _, actions = planner.on_text(state, "", 2, 0.2)
    assert actions == [StopSpeculation(), SetTimer(None)]


def test_unchanged_timer_is_not_set_again() -> None:
    state = replace(turn("hello worl", 1.0, looked_at="hello"), timer_s=1.1 + POLICY.settle_s)
    _, actions = planner.on_text(state, "hello world", 2, 1.1)
    assert actions == []


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
    docs = DocumentState(
        seen_text="what is it", last=(passage("b"),), frozen=(passage("a"),), freezes=1
    )
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


# ---- routing ------------------------------------------------------------------------------------


def test_text_whose_route_is_being_estimated_is_not_asked_again() -> None:
    state = turn("hello ", 1.0, routing="hello")
    _, actions = planner.on_text(state, "hello  ", 2, 1.1)
    assert of(actions, Route) == []


def test_text_whose_route_is_known_is_not_asked_again() -> None:
    _, actions = planner.on_text(routed(turn("hello ", 1.0)), "hello  ", 2, 1.1)
    assert of(actions, Route) == []


def test_newer_text_is_routed_while_an_estimate_is_under_way() -> None:
    state, actions = planner.on_text(turn("one ", 1.0, routing="one"), "one two ", 2, 1.1)
    assert of(actions, Route) == [Route("one two")]
    assert state.routing == "one two"


def test_pinned_expert_is_never_routed_but_prefilled() -> None:
    state = turn("hello", 1.0, policy={"pinned": "strong"})
    _, actions = planner.on_text(state, "hello ", 2, 1.1)
    assert of(actions, Route) == []
    assert [action.experts for action in of(actions, Prefill)] == [("strong",)]


@pytest.mark.parametrize(
    ("names", "confidence", "stable"),
    [
        ("a", 0.9, False),
        ("aa", 0.9, True),
        ("aa", 0.54, False),
        ("ab", 0.9, False),
        ("aba", 0.9, False),
        ("baa", 0.9, True),
    ],
)
def test_route_is_stable_after_enough_equal_confident_estimates(
    names: str, confidence: float, stable: bool
) -> None:
    state = turn("t")
    for number, name in enumerate(names):
        estimate = RouteEstimate(name, "general", confidence)
        state, actions = planner.on_route(state, f"text {number}", estimate, 1.0)
    event = actions[0].event  # type: ignore[union-attr]
    assert isinstance(event, RouteUpdated)
    assert (event.expert, event.stable) == (names[-1], stable)


def test_same_text_estimated_twice_counts_once_towards_stability() -> None:
    estimate = RouteEstimate("a", "general", 0.9)
    state, _ = planner.on_route(turn("t"), "same", estimate, 1.0)
    state, _ = planner.on_route(state, "same", estimate, 1.1)
    assert state.route is not None
    assert not state.route.stable


def test_estimate_for_an_older_text_leaves_the_newer_one_under_way() -> None:
    state = turn("one two ", 1.0, routing="one two")
    state, _ = planner.on_route(state, "one", RouteEstimate("a", "general", 0.9), 1.1)
    assert state.routing == "one two"


@pytest.mark.parametrize(("stable", "expert"), [(False, "fast"), (True, "strong")])
def test_prefill_moves_from_the_fast_to_the_routed_expert_once_stable(
    stable: bool, expert: str
) -> None:
    state = routed(turn("hello", 1.0), stable=stable)
    _, actions = planner.on_text(state, "hello ", 2, 1.1)
    assert [action.experts for action in of(actions, Prefill)] == [(expert,)]


def test_without_fast_expert_nothing_is_prefilled_until_the_route_settles() -> None:
    _, actions = planner.on_text(turn("hello", 1.0, policy={"fast": None}), "hello ", 2, 1.1)
    assert of(actions, Prefill) == []


@pytest.mark.parametrize("phase", ["answering", "ended"])
def test_late_estimate_changes_nothing_after_the_answer_began(phase: Any) -> None:
    state = turn("hello ", 1.0, phase=phase)
    after, actions = planner.on_route(state, "hello", RouteEstimate("a", "general", 0.9), 2.0)
    assert actions == []
    assert after.route is None


# ---- documents and prefill ----------------------------------------------------------------------


@pytest.mark.parametrize(("text", "asked"), [("one ", []), ("one two ", ["one two"])])
def test_retrieval_begins_with_the_second_word(text: str, asked: list[str]) -> None:
    state = turn("x", 1.0, policy={"retrieval": True, "pinned": "strong"})
    _, actions = planner.on_text(state, text, 2, 1.1)
    assert [action.text for action in of(actions, Retrieve)] == asked


def test_text_already_asked_for_is_not_retrieved_again() -> None:
    docs = DocumentState(asked_text="one two")
    state = turn("one two ", 1.0, policy={"retrieval": True}, docs=docs)
    _, actions = planner.on_text(state, "one two  ", 2, 1.1)
    assert of(actions, Retrieve) == []


def test_before_the_freeze_only_the_context_is_prefilled() -> None:
    context = Context("be brief")
    state = turn("x", 1.0, policy={"retrieval": True}, context=context)
    _, actions = planner.on_text(state, "one two ", 2, 1.1)
    [prefill] = of(actions, Prefill)
    assert prefill.messages == (Message("system", "be brief"), Message("user", ""))


def test_pause_freezes_the_documents_of_the_whole_text_and_prefills_them() -> None:
    docs = DocumentState(seen_text="one two", last=(passage("a"),))
    policy = {"retrieval": True, "mode": "prefill"}
    state = turn("one two", 1.0, policy=policy, docs=docs)
    state, _ = planner.on_timer(state, 1.3)
    assert state.docs.frozen is None
    assert state.timer_s == 1.4
    state, actions = planner.on_timer(state, 1.4)
    assert state.docs.frozen == (passage("a"),)
    assert [m.role for m in of(actions, Prefill)[0].messages] == ["documents", "user"]


def test_pause_does_not_freeze_the_documents_of_an_older_text() -> None:
    docs = DocumentState(seen_text="one", last=(passage("a"),), asked_text="one two")
    state, _ = planner.on_timer(turn("one two", 1.0, policy={"retrieval": True}, docs=docs), 1.5)
    assert state.docs.frozen is None


@pytest.mark.parametrize(("text", "frozen"), [("one two", (passage("a"),)), ("one", None)])
def test_result_that_comes_in_a_pause_freezes_if_it_is_of_the_whole_text(
    text: str, frozen: tuple[Passage, ...] | None
) -> None:
    state = turn("one two ", 1.0, policy={"retrieval": True})
    found = RetrievalResult(1, (passage("a"),))
    assert planner.on_retrieval(state, text, found, None, 1.39)[0].docs.frozen is None
    assert planner.on_retrieval(state, text, found, None, 1.4)[0].docs.frozen == frozen


def test_after_the_freeze_documents_and_text_are_prefilled() -> None:
    docs = DocumentState(seen_text="one two", last=(passage("a"),), frozen=(passage("a"),))
    state = turn("one two", 1.0, policy={"retrieval": True}, docs=docs)
    _, actions = planner.on_text(state, "one two ", 2, 1.1)
    [prefill] = of(actions, Prefill)
    assert [m.content for m in prefill.messages] == ["[1] text of a", "one two "]


def test_retrieval_result_is_reported_and_moves_the_prefill_target() -> None:
    state = turn("one two ", 1.0, policy={"retrieval": True})
    _, actions = planner.on_retrieval(state, "one two", EMPTY, None, 1.1)
    assert [type(action) for action in actions] == [Emit, Prefill]
    assert isinstance(of(actions, Emit)[0].event, RetrievalUpdated)


@pytest.mark.parametrize(("spent", "targets"), [(99, 1), (100, 0)])
def test_prefill_stops_at_the_token_budget_of_the_turn(spent: int, targets: int) -> None:
    state = turn("hello", 1.0, policy={"max_prefill_tokens": 100}, tokens_spent=40)
    state, _ = planner.on_prefilled(state, spent - 40)
    _, actions = planner.on_text(state, "hello ", 2, 1.1)
    assert len(of(actions, Prefill)) == targets


@pytest.mark.parametrize(
    ("warm_from", "chances", "prepared"),
    [
        (1.0, (0.99, 0.01), ("fast",)),
        (0.3, (0.45, 0.4), ("fast", "a", "b")),
        (0.3, (0.6, 0.2), ("fast", "a")),
        (0.3, (0.29, 0.28), ("fast",)),
        (0.0, (0.4, 0.3, 0.3), ("fast", "a", "b")),
    ],
)
def test_unsettled_route_prefills_likely_experts_within_one_budget(
    warm_from: float, chances: tuple[float, ...], prepared: tuple[str, ...]
) -> None:
    (best, *rest), names = chances, ("b", "c")
    state = turn("one", 1.0, policy={"warm_from": warm_from, "max_prefill_tokens": 100})
    estimate = RouteEstimate("a", "a", best, tuple(zip(names, rest, strict=False)))
    state, actions = planner.on_route(state, "one", estimate, 1.1)
    (prefill,) = of(actions, Prefill)
    assert prefill.experts == prepared
    assert prefill.budget_tokens == 100 // len(prepared)


def test_settled_route_ends_the_prefill_of_other_candidates() -> None:
    state = turn("one", 1.0, policy={"warm_from": 0.1})
    estimate = RouteEstimate("a", "a", 0.6, (("b", 0.4),), final=0.99, stable=True)
    _, actions = planner.on_route(state, "one", estimate, 1.1)
    assert [action.experts for action in of(actions, Prefill)] == [("a",)]


def test_fast_expert_that_is_a_candidate_is_prefilled_once() -> None:
    state = turn("one", 1.0, policy={"warm_from": 0.1})
    estimate = RouteEstimate("fast", "fast", 0.6, (("b", 0.4),))
    _, actions = planner.on_route(state, "one", estimate, 1.1)
    assert [action.experts for action in of(actions, Prefill)] == [("fast", "b")]


# ---- drafts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "waited_s", "drafts"),
    [
        ("what is it", 0.39, 0),
        ("what is it", 0.4, 1),
        ("what is it?", 0.07, 0),
        ("what is it?", 0.08, 1),
        ("what is it? ", 0.08, 1),
    ],
)
def test_draft_is_due_after_a_pause_shorter_behind_a_sentence(
    text: str, waited_s: float, drafts: int
) -> None:
    _, actions = planner.on_timer(routed(turn(text, 1.0)), 1.0 + waited_s)
    assert len(of(actions, StartDraft)) == drafts


def test_draft_answers_the_final_messages_of_the_routed_expert() -> None:
    state, actions = planner.on_timer(routed(turn("what is it? ", 1.0)), 2.0)
    [start] = of(actions, StartDraft)
    assert start.draft == DraftState("r1.d1", "strong", 1, (Message("user", "what is it?"),))
    assert state.draft == start.draft


@pytest.mark.parametrize(
    "state",
    [
        turn("what is it?", 1.0),
        routed(turn("what is it?", 1.0, policy={"retrieval": True})),
        routed(turn("what is it?", 1.0, policy={"mode": "prefill"})),
        routed(turn("what is it?", 1.0, draft_spent_tokens=400, settled_count=9)),
        routed(turn("what is it?", 1.0, draft_spent_s=5.0, settled_count=9)),
        routed(turn("what is it?", 1.0, policy={"draft_budget_tokens": 0})),
        routed(turn("what is it?", 1.0, drafts_lost=5)),
        drafted(routed(turn("what is it?", 1.0))),
        routed(turn("what is it?", 1.0, draft_tokens_wasted=513)),
        routed(turn("what is it?", 1.0, draft_tokens_wasted=801, draft_tokens_adopted=200)),
    ],
    ids=[
        "no route",
        "documents pending",
        "prefill only",
        "token budget spent",
        "time budget spent",
        "no drafts allowed",
        "lost too often",
        "one exists",
        "all wasted",
        "too much wasted",
    ],
)
def test_pause_starts_no_draft_when_a_rule_forbids_it(state: TurnState) -> None:
    _, actions = planner.on_timer(state, 5.0)
    assert of(actions, StartDraft) == []


@pytest.mark.parametrize(
    ("text", "spent", "budget", "drafts"),
    [
        ("what is", 224, 300, 1),
        ("what is", 225, 300, 0),
        ("what is it?", 225, 300, 1),
        ("what is it?", 300, 300, 0),
    ],
)
def test_part_of_the_draft_budget_is_kept_for_the_end_of_a_sentence(
    text: str, spent: int, budget: int, drafts: int
) -> None:
    policy = {"draft_budget_tokens": budget}
    state = turn(text, 1.0, policy=policy, draft_spent_tokens=spent, settled_count=9)
    state = routed(state)
    _, actions = planner.on_timer(state, 5.0)
    assert len(of(actions, StartDraft)) == drafts


@pytest.mark.parametrize(("wasted", "adopted"), [(512, 0), (800, 200)])
def test_waste_up_to_the_ratio_still_allows_a_draft(wasted: int, adopted: int) -> None:
    state = turn("it?", 1.0, draft_tokens_wasted=wasted, draft_tokens_adopted=adopted)
    _, actions = planner.on_timer(routed(state), 5.0)
    assert len(of(actions, StartDraft)) == 1


def test_route_arriving_after_the_pause_starts_the_draft() -> None:
    estimate = RouteEstimate("strong", "general", 0.9)
    _, actions = planner.on_route(turn("what is it?", 1.0), "what is it?", estimate, 2.0)
    assert len(of(actions, StartDraft)) == 1


def test_documents_arriving_after_the_pause_start_the_draft() -> None:
    state = routed(turn("what is it?", 1.0, policy={"retrieval": True}))
    _, actions = planner.on_retrieval(state, "what is it", EMPTY, None, 2.0)
    assert len(of(actions, StartDraft)) == 1


def test_settled_words_give_the_draft_budget_back_an_eighth_each() -> None:
    policy = {"draft_budget_tokens": 80, "draft_budget_s": 8.0}
    spent = {"draft_spent_tokens": 80.0, "draft_spent_s": 8.0}
    state = routed(turn("one two three ", 1.0, policy=policy, settled_count=2, **spent))
    state, actions = planner.on_timer(state, 5.0)
    assert (state.draft_spent_tokens, state.draft_spent_s, state.settled_count) == (70, 7, 3)
    assert of(actions, StartDraft) == []  # a quarter is kept
    state = routed(replace(state, text="one two three four five "))
    _, actions = planner.on_timer(state, 5.0)
    assert len(of(actions, StartDraft)) == 1


def test_cost_of_drafts_is_counted_up_to_the_budget() -> None:
    state = drafted(turn("what is it?", policy={"draft_budget_tokens": 10, "draft_budget_s": 3.0}))
    state, _ = planner.on_draft_started(state, "r1.d1", 7)
    assert (state.draft_started, state.draft_spent_tokens, state.tokens_spent) == (True, 7, 7)
    state, _ = planner.on_draft_counted(state, 5, 0, 9.0)
    assert (state.draft_spent_tokens, state.draft_spent_s) == (10, 3)


def test_draft_lost_before_it_began_costs_nothing_and_is_tried_again_ever_later() -> None:
    state, actions = planner.on_timer(routed(turn("what is it?", 1.0)), 2.0)
    tried = []
    for number in range(1, 9):
        state, actions = planner.on_draft_lost(state, f"r1.d{number}", "busy", 2.0)
        if not (timers := of(actions, SetTimer)):
            break
        tried.append(timers[-1].at_s - 2.0)
        state, actions = planner.on_timer(state, 2.0)
        assert len(of(actions, StartDraft)) == 1
    assert tried == [0.25, 0.5, 1.0, 2.0]
    assert state.draft_spent_tokens == 0
    _, actions = planner.on_text(state, "what is it? now", 2, 2.0)
    assert SetTimer(2.0 + POLICY.settle_s) in actions


def test_draft_lost_after_it_began_is_not_tried_again() -> None:
    state, _ = planner.on_draft_started(drafted(turn("what is it?", 1.0)), "r1.d1", 0)
    state, actions = planner.on_draft_lost(state, "r1.d1", "limit", 2.0)
    assert (of(actions, SetTimer), state.drafts_lost) == ([], 0)


def test_changed_text_drops_the_draft() -> None:
    state = drafted(turn("what is it?", 1.0))
    after, actions = planner.on_text(state, "what is it? now", 2, 1.2)
    assert of(actions, DropDraft) == [DropDraft(state.draft, "input changed")]  # type: ignore[arg-type]
    assert after.draft is None


def test_trailing_white_space_keeps_the_draft() -> None:
    state = drafted(turn("what is it?", 1.0))
    after, actions = planner.on_text(state, "what is it? \n", 2, 1.2)
    assert of(actions, DropDraft) == []
    assert after.draft == state.draft


def test_lost_draft_is_dropped_with_its_reason() -> None:
    state = drafted(turn("what is it?", 1.0))
    after, actions = planner.on_draft_lost(state, "r1.d1", "gone", 2.0)
    assert [action.reason for action in of(actions, DropDraft)] == ["gone"]
    assert after.draft is None


def test_loss_of_an_older_draft_is_ignored() -> None:
    state = drafted(turn("what is it?", 1.0))
    assert planner.on_draft_lost(state, "r1.d0", "gone", 2.0) == (state, [])


def test_draft_tokens_are_added_up() -> None:
    state, _ = planner.on_draft_counted(turn(), 3, 0)
    state, _ = planner.on_draft_counted(state, 4, 5)
    assert (state.draft_tokens_wasted, state.draft_tokens_adopted) == (7, 5)


# ---- commit -------------------------------------------------------------------------------------


def test_commit_adopts_the_draft_of_equal_expert_and_messages() -> None:
    state = drafted(routed(turn("what is it?", 1.0)))
    _, actions = planner.on_commit(state, "what is it? ", 2, 3.0)
    assert of(actions, Answer)[0].draft_id == "r1.d1"
    assert of(actions, DropDraft) == []


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (drafted(turn("it?", 1.0, policy={"pinned": "strong"})), "it? ok"),
        (drafted(turn("it?", 1.0, policy={"pinned": "strong"})), " it?"),
        (drafted(routed(turn("it?", 1.0)), expert="other"), "it?"),
        (replace(drafted(routed(turn("it?", 1.0))), context=Context("be brief")), "it?"),
    ],
    ids=["text", "leading space", "expert", "context"],
)
def test_commit_drops_a_draft_that_differs(state: TurnState, text: str) -> None:
    after, actions = planner.on_commit(state, text, 2, 3.0)
    assert of(actions, Answer)[0].draft_id is None
    assert [action.reason for action in of(actions, DropDraft)] == ["commit differs"]
    assert after.draft is None


def test_commit_waits_for_the_route_of_the_committed_text() -> None:
    state, actions = planner.on_commit(routed(turn("one", 1.0)), "one two", 2, 3.0)
    assert of(actions, Route) == [Route("one two")]
    assert (of(actions, Answer), state.phase) == ([], "resolving")
    state, actions = planner.on_route(state, "one two", RouteEstimate("a", "general", 0.1), 3.1)
    assert [action.expert for action in of(actions, Answer)] == ["a"]
    assert state.phase == "answering"


def test_route_of_another_text_that_comes_after_the_commit_changes_nothing() -> None:
    state = routed(turn("what is it?", 1.0, policy={"retrieval": True}))
    state, _ = planner.on_commit(state, "what is it?", 2, 1.2)
    late = RouteEstimate("other", "other", 0.9)
    after, actions = planner.on_route(state, "what is it? x", late, 1.3)
    assert (after, actions) == (state, [])
    _, actions = planner.on_retrieval(after, "what is it", EMPTY, None, 1.4)
    assert [answer.expert for answer in of(actions, Answer)] == ["strong"]


def test_commit_does_not_ask_again_for_a_route_under_way() -> None:
    _, actions = planner.on_commit(turn("one", 1.0, routing="one"), "one ", 2, 3.0)
    assert kinds(actions) == {SetTimer}


def test_route_of_an_older_text_does_not_answer_the_commit() -> None:
    state, _ = planner.on_commit(turn("one", 1.0, routing="one"), "one two", 2, 3.0)
    state, actions = planner.on_route(state, "one", RouteEstimate("a", "general", 0.9), 3.1)
    assert (of(actions, Answer), state.phase) == ([], "resolving")


@pytest.mark.parametrize(("frozen", "wait_s"), [(None, 0.6), ((), 0.06)])
def test_commit_waits_shortly_for_documents_once_some_are_frozen(
    frozen: tuple[Passage, ...] | None, wait_s: float
) -> None:
    policy = {"retrieval": True, "pinned": "strong"}
    state = turn("one", 1.0, policy=policy, docs=DocumentState(seen_text="on", frozen=frozen))
    state, actions = planner.on_commit(state, "one", 2, 3.0)
    assert of(actions, Retrieve) == [Retrieve("one", 2, partial=False, deadline_s=wait_s)]
    assert of(actions, Answer) == []
    _, actions = planner.on_retrieval(state, "one", EMPTY, None, 3.1)
    assert len(of(actions, Answer)) == 1


def test_commit_with_known_documents_answers_at_once() -> None:
    policy = {"retrieval": True, "pinned": "strong"}
    docs = DocumentState(seen_text="one", last=(passage("a"),))
    _, actions = planner.on_commit(turn("one", 1.0, policy=policy, docs=docs), "one ", 2, 3.0)
    [answer] = of(actions, Answer)
    assert [m.role for m in answer.messages] == ["documents", "user"]


def test_degraded_documents_are_named_in_the_answer() -> None:
    state = turn("one", 1.0, policy={"retrieval": True, "pinned": "strong"})
    state, _ = planner.on_commit(state, "one", 2, 3.0)
    result = RetrievalResult(2, (), "timeout")
    _, actions = planner.on_retrieval(state, "one", result, None, 3.6)
    assert of(actions, Answer)[0].degraded == ("timeout",)


def test_answer_stops_speculation_first() -> None:
    _, actions = planner.on_commit(turn("a", policy={"pinned": "strong"}), "a", 2, 3.0)
    assert [type(a) for a in actions] == [SetTimer, StopSpeculation, Answer]


# ---- the end ------------------------------------------------------------------------------------


def test_answer_end_ends_the_turn_once() -> None:
    state = turn("one", 1.0, phase="answering")
    state, first = planner.on_answer_end(state, "completed")
    _, second = planner.on_answer_end(state, "failed", FAILURE)
    assert of(first, EndTurn) == [EndTurn("completed")]
    assert second == []


@pytest.mark.parametrize(
    ("phase", "kinds_expected"),
    [
        ("typing", {StopSpeculation, SetTimer}),
        ("resolving", {StopSpeculation, SetTimer, EndTurn}),
        ("answering", {StopAnswer}),
        ("ended", set()),
    ],
)
def test_cancel_ends_what_the_phase_has_begun(phase: Any, kinds_expected: set[type]) -> None:
    _, actions = planner.on_cancel(turn("one", 1.0, phase=phase))
    assert kinds(actions) == kinds_expected


@pytest.mark.parametrize(("error", "status"), [(None, "cancelled"), (FAILURE, "failed")])
def test_cancel_carries_status_and_error(error: ErrorInfo | None, status: Any) -> None:
    _, resolving = planner.on_cancel(turn("one", 1.0, phase="resolving"), error)
    _, answering = planner.on_cancel(turn("one", 1.0, phase="answering"), error)
    assert of(resolving, EndTurn) == [EndTurn(status, error)]
    assert of(answering, StopAnswer) == [StopAnswer(status, error)]


@pytest.mark.parametrize("phase", ["typing", "resolving"])
def test_cancel_drops_the_draft(phase: Any) -> None:
    state, actions = planner.on_cancel(replace(drafted(turn("one", 1.0)), phase=phase))
    assert [action.reason for action in of(actions, DropDraft)] == ["cancelled"]
    assert state.draft is None


def test_cancel_while_typing_keeps_the_text() -> None:
    state, _ = planner.on_cancel(turn("one", 1.0))
    assert (state.phase, state.text) == ("typing", "one")


# ---- purity -------------------------------------------------------------------------------------

TEXTS = ["", "one", "one two ", "one two.", "three "]
estimates = st.builds(RouteEstimate, st.sampled_from("ab"), st.just("d"), st.floats(0, 1))
results = st.builds(
    RetrievalResult,
    st.just(1),
    st.lists(st.sampled_from("xyz").map(passage), max_size=3).map(tuple),
    st.sampled_from([None, "timeout"]),
)
calls = st.one_of(
    st.tuples(st.just("on_text"), st.sampled_from(TEXTS), st.just(2), st.floats(0, 9)),
    st.tuples(st.just("on_timer"), st.floats(0, 9)),
    st.tuples(st.just("on_route"), st.sampled_from(TEXTS), estimates, st.floats(0, 9)),
    st.tuples(st.just("on_retrieval"), st.sampled_from(TEXTS), results, st.none(), st.just(3.0)),
    st.tuples(st.just("on_commit"), st.sampled_from(TEXTS[1:]), st.just(3), st.floats(0, 9)),
    st.tuples(
        st.just("on_draft_lost"),
        st.sampled_from(["r1.d1", "r1.d2"]),
        st.just("gone"),
        st.floats(0, 9),
    ),
    st.tuples(st.just("on_draft_started"), st.sampled_from(["r1.d1", "r1.d2"]), st.just(7)),
    st.tuples(st.just("on_answer_end"), st.sampled_from(["completed", "failed"])),
    st.tuples(st.just("on_cancel")),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(calls, max_size=8), st.booleans())
def test_planner_any_calls_is_a_function_and_mutates_nothing(
    script: list[tuple[Any, ...]], retrieval: bool
) -> None:
    state = turn(policy={"retrieval": retrieval})
    for name, *args in script:
        before = repr(state)
        step = getattr(planner, name)(state, *args)
        assert getattr(planner, name)(state, *args) == step
        assert repr(state) == before
        state = step[0]


@settings(max_examples=40, deadline=None)
@given(st.lists(calls, max_size=12))
def test_planner_any_calls_end_the_turn_at_most_once(script: list[tuple[Any, ...]]) -> None:
    state = turn(policy={"retrieval": True})
    ended = 0
    for name, *args in script:
        if name in ("on_text", "on_commit") and state.phase != "typing":
            continue  # the session refuses these
        state, actions = getattr(planner, name)(state, *args)
        ended += len(of(actions, EndTurn))
        assert ended == (state.phase == "ended")


PICTURE = Image("image/png", b"red")


def test_commit_with_an_image_is_routed_again_and_tells_how_many() -> None:
    state = drafted(routed(turn("one two")))
    state, actions = planner.on_commit(state, "one two", 2, 1.0, (PICTURE,))
    assert actions.index(StopSpeculation()) < actions.index(Route("one two", 1))
    assert not [action for action in actions if isinstance(action, Answer)]
    state, actions = planner.on_route(state, "one two", RouteEstimate("eye", "eye", 1.0), 1.1)
    [answer] = [action for action in actions if isinstance(action, Answer)]
    assert (answer.expert, answer.draft_id) == ("eye", None)
    assert answer.messages == (Message("user", "one two", (PICTURE,)),)


def test_conversation_with_an_image_is_not_computed_ahead_but_its_expert_is_woken() -> None:
    seen = Context(history=(Message("user", "look", (PICTURE,)), Message("assistant", "red")))
    state = routed(turn("one two ", context=seen))
    state, actions = planner.on_text(state, "one two three ", 2, 1.0)
    state, more = planner.on_route(state, "one two three", RouteEstimate("eye", "e", 1.0), 1.1)
    state, last = planner.on_timer(replace(routed(state), timer_s=9.0), 9.0)
    kinds = {type(action) for action in (*actions, *more, *last)}
    assert Route("one two three", 1) in actions
    assert Wake in kinds
    assert not kinds & {Prefill, StartDraft}


def test_commit_with_an_image_the_fast_expert_does_not_stand_in() -> None:
    policy = {"on_cold": "fallback", "pinned": "eye"}
    state = turn("one", policy=policy, loaded=frozenset({"fast"}))
    _, actions = planner.on_commit(state, "one", 2, 1.0, (PICTURE,))
    [answer] = [action for action in actions if isinstance(action, Answer)]
    assert answer.expert == "eye"


@pytest.mark.parametrize(
    ("on_cold", "loaded", "answers"),
    [
        ("fallback", {"fast"}, "fast"),
        ("fallback", {"fast", "strong"}, "strong"),
        ("fallback", set(), "strong"),
        ("wait", {"fast"}, "strong"),
    ],
    ids=["stands-in", "not-needed", "cold-itself", "not-allowed"],
)
@pytest.mark.parametrize("pinned", [None, "strong"])
def test_commit_while_the_expert_is_not_loaded_the_fast_one_answers_if_allowed(
    on_cold: str, loaded: set[str], answers: str, pinned: str | None
) -> None:
    policy = {"on_cold": on_cold, "pinned": pinned}
    state = routed(turn("one two", policy=policy, loaded=frozenset(loaded)))
    _, actions = planner.on_commit(state, "one two", 2, 1.0)
    [answer] = [action for action in actions if isinstance(action, Answer)]
    assert answer.expert == answers
    stood_in = answers == "fast"
    assert answer.degraded == (("strong is not loaded yet: fast answers",) if stood_in else ())
    assert (Wake("strong") in actions) == stood_in
