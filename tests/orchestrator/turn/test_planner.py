"""The planner's rules, one by one: state and event in, actions out; no loop, no clock."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from msgspec.structs import replace

from livemind.backends.base import Image, Message
from livemind.orchestrator.errors import ErrorInfo
from livemind.orchestrator.routing.estimate import RouteEstimate
from livemind.orchestrator.turn import changes, planner
from livemind.orchestrator.turn.passages.documents import DocumentState
from livemind.orchestrator.turn.passages.outlook import Outlook, Seen
from livemind.orchestrator.turn.prompt import Context
from livemind.orchestrator.turn.values import (
    Answer,
    DropDraft,
    EndTurn,
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

from .turn_states import EMPTY, FAILURE, POLICY, drafted, kinds, of, passage, routed, turn

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
    assert of(actions, Route) == [Route("one two", committed=True)]
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


def test_commit_asks_again_for_a_route_that_was_found_in_haste() -> None:
    hasty = RouteEstimate("fast", "general", 0.6, provisional=True)
    state = replace(turn("one", 1.0), route=RouteState(hasty, "one", 1, stable=False))
    state, actions = planner.on_commit(state, "one", 2, 1.5)
    assert of(actions, Route) == [Route("one", 0, state.policy.route_deadline_s, committed=True)]
    assert of(actions, Answer) == []
    _, actions = planner.on_route(state, "one", RouteEstimate("strong", "coding", 0.9), 1.6)
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
    assert actions.index(StopSpeculation()) < actions.index(Route("one two", 1, committed=True))
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


def known_outlook() -> Outlook:
    return Outlook().after([Seen((2, 0), ("a",))], ("b",))


def test_cleared_input_keeps_what_earlier_turns_taught() -> None:
    state = turn("one two", 1.0, docs=DocumentState(seen_text="one", outlook=known_outlook()))
    state, _ = planner.on_text(state, "", 2, 1.1)
    assert state.docs == DocumentState(outlook=known_outlook())


def test_retrieval_that_was_changed_keeps_what_earlier_turns_taught() -> None:
    state = turn("one two", 1.0, docs=DocumentState(seen_text="one", outlook=known_outlook()))
    change = changes.change(state.policy, state.context, ("retrieval",))
    state, _ = changes.on_changed(state, change)
    assert state.docs == DocumentState(outlook=known_outlook())


@pytest.mark.parametrize(("consistency", "frozen"), [("early", ("a", "b")), ("final", ("a", "c"))])
@pytest.mark.parametrize("late", [True, False], ids=["the timer is first", "the result is first"])
def test_early_documents_stay_prepared_at_a_pause(
    consistency: Any, frozen: tuple[str, ...], late: bool
) -> None:
    docs = DocumentState(seen_text="one", last=(passage("a"),), frozen=(passage("a"), passage("b")))
    policy = {"retrieval": True, "pinned": "strong", "consistency": consistency, "pause_s": 0.4}
    state = turn("one two", 1.0, policy=policy, docs=docs)
    found = RetrievalResult(1, (passage("a"), passage("c")))
    at_s = 1.5 if late else 1.01
    state, _ = planner.on_retrieval(state, "one two", found, 0.5, at_s)
    state, _ = planner.on_timer(state, 1.6)
    assert tuple(one.id for one in state.docs.frozen or ()) == frozen
