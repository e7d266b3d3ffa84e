"""What the planner asks for ahead of a commit: routes, documents, prefill."""

from __future__ import annotations

from typing import Any

import pytest

from livemind.backends.base import Message
from livemind.orchestrator.events import RetrievalUpdated, RouteUpdated
from livemind.orchestrator.routing.estimate import RouteEstimate
from livemind.orchestrator.turn import planner
from livemind.orchestrator.turn.passages.documents import DocumentState
from livemind.orchestrator.turn.prompt import Context
from livemind.orchestrator.turn.values import (
    Emit,
    Prefill,
    Retrieve,
    Route,
)
from livemind.rag.base import Passage, RetrievalResult

from .turn_states import EMPTY, of, passage, routed, turn

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


@pytest.mark.parametrize(("stable", "experts"), [(False, ("strong", "fast")), (True, ("strong",))])
def test_prefill_leaves_the_fast_expert_once_the_route_is_stable(
    stable: bool, experts: tuple[str, ...]
) -> None:
    state = routed(turn("hello", 1.0), stable=stable)
    _, actions = planner.on_text(state, "hello ", 2, 1.1)
    assert [action.experts for action in of(actions, Prefill)] == [experts]


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


def test_text_that_finds_nothing_is_prefilled_without_passages() -> None:
    text = "why does my program stop with an error when the list "
    policy = {"retrieval": True, "pinned": "general", "input_kind": "typed"}
    state = turn("x", 1.0, policy=policy)
    state, _ = planner.on_text(state, text, 2, 1.1)
    _, actions = planner.on_retrieval(state, state.docs.asked_text or "", EMPTY, None, 1.15)
    [prefill] = of(actions, Prefill)
    assert prefill.messages == (Message("user", text),)


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
    ("waste", "chances", "final", "prepared"),
    [
        (0.0, (0.99, 0.01), None, ("fast",)),
        (4.0, (0.45, 0.4), None, ("a", "b", "fast")),
        (4.0, (0.6, 0.19), None, ("a", "fast")),
        (4.0, (0.19, 0.18), None, ("fast",)),
        (1.5, (0.45, 0.39), None, ("a", "fast")),
        (4.0, (0.9, 0.1), 0.1, ("fast",)),  # it sounds like it, and will probably end elsewhere
        (4.0, (0.3, 0.3), 0.5, ("a", "b", "fast")),
        (1000.0, (0.4, 0.3, 0.3), None, ("a", "b", "fast")),
    ],
)
def test_unsettled_route_prefills_experts_that_are_likely_enough_within_one_budget(
    waste: float, chances: tuple[float, ...], final: float | None, prepared: tuple[str, ...]
) -> None:
    (best, *rest), names = chances, ("b", "c")
    state = turn("one", 1.0, policy={"max_waste_ratio": waste, "max_prefill_tokens": 100})
    others = tuple(zip(names, rest, strict=False))
    estimate = RouteEstimate("a", "a", best, others, final=final)
    state, actions = planner.on_route(state, "one", estimate, 1.1)
    (prefill,) = of(actions, Prefill)
    assert prefill.experts == prepared
    assert prefill.budget_tokens == 100 // len(prepared)


def test_settled_route_ends_the_prefill_of_other_candidates() -> None:
    state = turn("one", 1.0, policy={"max_waste_ratio": 9.0})
    estimate = RouteEstimate("a", "a", 0.6, (("b", 0.4),), final=0.99, stable=True)
    _, actions = planner.on_route(state, "one", estimate, 1.1)
    assert [action.experts for action in of(actions, Prefill)] == [("a",)]


def test_fast_expert_that_is_a_candidate_is_prefilled_once() -> None:
    state = turn("one", 1.0, policy={"max_waste_ratio": 9.0})
    estimate = RouteEstimate("fast", "fast", 0.6, (("b", 0.4),))
    _, actions = planner.on_route(state, "one", estimate, 1.1)
    assert [action.experts for action in of(actions, Prefill)] == [("fast", "b")]


@pytest.mark.parametrize(
    "text",
    [
        "路由器的端口号是哪一个呢",
        "ルーターのポート番号はいくつですか",
        "พอร์ตของเราเตอร์คือหมายเลขอะไร",
    ],
)
def test_question_without_blanks_is_looked_up_and_prepared_while_it_is_typed(text: str) -> None:
    state = turn(policy={"retrieval": True, "pinned": "strong"})
    asked, prepared = None, ""
    for number in range(1, len(text) + 1):
        state, actions = planner.on_text(state, text[:number], number, 0.3 * number)
        if of(actions, Retrieve):
            asked = asked or number
            [query] = of(actions, Retrieve)
            result = RetrievalResult(number, (passage("a"),))
            state, more = planner.on_retrieval(state, query.text, result, 0.5, 0.3 * number + 0.02)
            actions = [*actions, *more]
        for action in of(actions, Prefill):
            prepared = action.messages[-1].content
    assert asked is not None
    assert asked <= 0.6 * len(text)
    assert state.docs.frozen == (passage("a"),)
    assert prepared == text
