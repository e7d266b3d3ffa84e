"""When retrieved passages settle, are replaced, or stand behind the text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from livemind.orchestrator import documents
from livemind.orchestrator.documents import DocumentState
from livemind.orchestrator.events import DocumentsUsed
from livemind.rag.base import Passage, RetrievalResult


def passages(names: str, size: int = 4) -> tuple[Passage, ...]:
    return tuple(Passage(name, f"{name}.md", name * size, 0.5) for name in names)


def result(names: str, degraded: str | None = None, size: int = 4) -> RetrievalResult:
    return RetrievalResult(7, passages(names, size), degraded)


def after(names: Sequence[str], ms_per_token: float | None = 0.1, size: int = 4) -> DocumentState:
    """Observe one result per entry."""
    state = DocumentState()
    for number, each in enumerate(names):
        state = documents.observe(state, f"text {number}", result(each, size=size), ms_per_token)
    return state


def ids(found: tuple[Passage, ...] | None) -> str | None:
    return None if found is None else "".join(passage.id for passage in found)


@pytest.mark.parametrize(
    ("results", "frozen"),
    [
        (["abc"], None),
        (["abc", "abc"], "abc"),
        (["abc", "bac"], None),
        (["abc", "abd"], None),
        (["abcd", "abce"], "abce"),
        (["abc", "ab"], "ab"),
        (["abc", "xyz", "abc"], None),
        ([""], None),
        (["", ""], None),
        (["", "", "a", "a"], "a"),
        (["", "a"], None),
        (["a", ""], None),
    ],
)
def test_results_freeze_when_the_best_and_enough_of_the_rest_agree(
    results: list[str], frozen: str | None
) -> None:
    assert ids(after(results).frozen) == frozen


def test_frozen_passages_stay_while_results_move_around_them() -> None:
    assert ids(after(["abc", "abc", "bca", "bca"]).frozen) == "abc"


def test_settled_new_best_passage_freezes_anew() -> None:
    state = after(["a", "a", "b", "b"])
    assert (ids(state.frozen), state.refreezes) == ("b", 1)


def test_freeze_anew_keeps_first_seen_order_although_scores_change() -> None:
    state = DocumentState()
    for number, names in enumerate(["abc", "abc", "dabc", "dabc"]):
        scored = tuple(Passage(n, f"{n}.md", n * 4, 1.0 / (number + 1)) for n in names)
        state = documents.observe(state, f"text {number}", RetrievalResult(number, scored), 0.1)
    assert (ids(state.frozen), state.refreezes) == ("abcd", 1)


def test_new_best_passage_seen_once_does_not_freeze_anew() -> None:
    assert ids(after(["a", "a", "b"]).frozen) == "a"


def test_third_change_of_mind_is_not_frozen() -> None:
    state = after(["a", "a", "b", "b", "c", "c", "d", "d"])
    assert (ids(state.frozen), state.refreezes) == ("c", 2)


@pytest.mark.parametrize(("ms_per_token", "frozen"), [(1.0, "abc"), (1.01, "ab"), (None, "ab")])
def test_freeze_anew_only_within_the_cost_bound(ms_per_token: float | None, frozen: str) -> None:
    # 4000 characters are 1000 tokens, the bound is 1000 ms
    state = after(["ab", "ab", "cba", "cba"], ms_per_token, size=4000)
    assert ids(state.frozen) == frozen


@pytest.mark.parametrize("ms_per_token", [1e6, None])
def test_freeze_anew_of_mostly_other_passages_is_not_bound_by_cost(
    ms_per_token: float | None,
) -> None:
    assert ids(after(["ab", "ab", "cda", "cda"], ms_per_token).frozen) == "acd"


def test_first_freeze_is_not_bound_by_cost() -> None:
    assert ids(after(["a", "a"], ms_per_token=1e6).frozen) == "a"


def test_degraded_result_keeps_the_last_passages_and_names_the_reason() -> None:
    state = documents.observe(after(["ab"]), "newer", result("", "timeout"), None)
    assert (ids(state.last), state.degraded, state.seen_text) == ("ab", "timeout", "newer")


def test_degraded_result_never_freezes() -> None:
    state = documents.observe(after(["ab"]), "newer", result("ab", "timeout"), None)
    assert state.frozen is None


def test_good_result_after_a_degraded_one_clears_the_reason() -> None:
    state = documents.observe(after(["a"]), "x", result("", "timeout"), None)
    assert documents.observe(state, "y", result("a"), None).degraded is None


@pytest.mark.parametrize(
    ("results", "before", "behind"),
    [
        ([], "", ""),
        (["abc"], "abc", ""),
        (["ab", "ab"], "ab", ""),
        (["ab", "ab", "b"], "ab", ""),
        (["ab", "ab", ""], "ab", ""),
        (["ab", "ab", "ca"], "ab", "c"),
        (["ab", "ab", "cad"], "cad", ""),
        (["ab", "ab", "cd"], "cd", ""),
    ],
)
def test_passage_missing_from_the_frozen_ones_stands_behind_the_text(
    results: list[str], before: str, behind: str
) -> None:
    frozen, late = documents.chosen(after(results))
    assert (ids(frozen), ids(late)) == (before, behind)


@pytest.mark.parametrize(
    ("results", "stable"), [(["a"], False), (["a", "a"], True), (["a", "a", "b"], False)]
)
def test_event_is_stable_while_the_frozen_passages_hold_the_best(
    results: list[str], stable: bool
) -> None:
    assert documents.event(after(results), result(results[-1])).stable is stable


def test_event_names_passages_without_their_text() -> None:
    found = documents.event(after(["a"]), result("a", "timeout", size=40))
    assert (found.revision, found.degraded) == (7, "timeout")
    assert [(p.id, p.source, p.score) for p in found.passages] == [("a", "a.md", 0.5)]
    assert "a" * 40 not in repr(found)


def test_freeze_anew_keeps_what_stays_in_its_old_order_and_adds_the_rest() -> None:
    state = after(["abc", "abc", "dcb", "dcb"])
    assert ids(state.frozen) == "bcd"


def test_used_passages_are_those_chosen_by_id() -> None:
    assert documents.used(after(["ab", "ab", "ca"])) == DocumentsUsed(("a", "b"), ("c",))
