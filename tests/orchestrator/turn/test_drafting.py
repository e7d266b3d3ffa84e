"""When the planner drafts, what a draft may cost, and what drops it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from livemind.backends.base import Message
from livemind.orchestrator.routing.estimate import RouteEstimate
from livemind.orchestrator.turn import planner
from livemind.orchestrator.turn.partials import InputHabits, InputKind
from livemind.orchestrator.turn.values import (
    DraftState,
    DropDraft,
    SetTimer,
    StartDraft,
    TurnState,
)
from livemind.rag.base import RetrievalResult

from .turn_states import EMPTY, POLICY, drafted, of, passage, routed, turn


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


@pytest.mark.parametrize(
    ("text", "kind", "drafts"),
    [
        ("what is it?", "typed", 1),
        ("what is it? ", "typed", 1),
        ("那是什么？", "typed", 1),  # noqa: RUF001
        ("ما هذا؟", "typed", 1),
        ("tell me.", "typed", 0),
        ("tell me!", "typed", 0),
        ("what is it", "typed", 0),
        ("what is it?", None, 0),  # a recogniser's first words may end in a mark
        ("what is it?", "transcript", 0),
    ],
)
def test_draft_of_a_typed_question_waits_for_nothing(
    text: str, kind: InputKind | None, drafts: int
) -> None:
    _, actions = planner.on_timer(routed(turn(text, 1.0, policy={"input_kind": kind})), 1.0)
    assert len(of(actions, StartDraft)) == drafts


@pytest.mark.parametrize(("votes", "drafts"), [(-6, 1), (-5, 0), (6, 0)])
def test_draft_of_a_question_waits_for_nothing_once_its_keys_are_seen(
    votes: int, drafts: int
) -> None:
    state = replace(routed(turn("what is it?", 1.0)), habits=InputHabits(votes))
    _, actions = planner.on_timer(state, 1.0)
    assert len(of(actions, StartDraft)) == drafts


def test_draft_of_a_typed_question_begins_with_its_documents() -> None:
    policy = {"input_kind": "typed", "retrieval": True}
    state = routed(turn("what is it?", 1.0, policy=policy))
    found = RetrievalResult(1, (passage("a"),))
    _, actions = planner.on_retrieval(state, "what is it", found, 0.1, 1.02)
    assert len(of(actions, StartDraft)) == 1


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


@pytest.mark.parametrize(("since_first_s", "drafts"), [(1.0, 1), (0.0, 0)])
def test_draft_of_a_question_that_waits_for_nobody_begins_with_its_last_key(
    since_first_s: float, drafts: int
) -> None:
    """A pasted question is not drafted: its commit comes with it."""
    policy = {"input_kind": "typed", "pinned": "strong"}
    state = turn("what is it", 1.0, policy=policy)
    if not since_first_s:
        state = turn(policy=policy)
    _, actions = planner.on_text(state, "what is it?", 2, 1.0 + since_first_s)
    assert len(of(actions, StartDraft)) == drafts
