"""When retrieved passages settle, are replaced, or stand behind the text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from livemind.orchestrator.events import DocumentsUsed
from livemind.orchestrator.turn.passages import documents
from livemind.orchestrator.turn.passages.documents import Consistency, DocumentState, Moment
from livemind.orchestrator.turn.passages.outlook import Outlook, Seen
from livemind.rag.base import Passage, RetrievalResult


def passages(names: str, size: int = 4) -> tuple[Passage, ...]:
    return tuple(Passage(name, f"{name}.md", name * size, 0.5) for name in names)


def result(names: str, degraded: str | None = None, size: int = 4) -> RetrievalResult:
    return RetrievalResult(7, passages(names, size), degraded)


@pytest.fixture(autouse=True)
def nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents are long in comparison to the text, so that none waits for another result."""
    monkeypatch.setattr(documents, "SOON_MS", -1.0)


LONG = "a text that is long enough to say what it is about, "


def after(
    names: Sequence[str],
    ms_per_token: float | None = 0.1,
    size: int = 4,
    text: str = LONG,
    moment: Moment = "typing",
) -> DocumentState:
    """Observe one result per entry."""
    state = DocumentState()
    for number, each in enumerate(names):
        found = result(each, size=size)
        state = documents.observe(state, f"{text}{number}", found, ms_per_token, moment)
    return state


def committed(names: Sequence[str]) -> DocumentState:
    """Observe one result per entry, the last one for the committed text."""
    return documents.observe(after(names[:-1]), LONG, result(names[-1]), 0.1, "committed")


def ids(found: tuple[Passage, ...] | None) -> str | None:
    return None if found is None else "".join(passage.id for passage in found)


@pytest.mark.parametrize(
    ("length", "frozen"), [(documents.MIN_LETTERS - 1, None), (documents.MIN_LETTERS, "abc")]
)
def test_result_of_a_text_that_says_enough_freezes(length: int, frozen: str | None) -> None:
    assert ids(after(["abc"], text="x" * (length - 1)).frozen) == frozen


def test_result_of_a_short_text_freezes_when_the_typist_pauses() -> None:
    assert ids(after(["abc"], text="", moment="paused").frozen) == "abc"
    assert ids(documents.settle(after(["abc"], text="")).frozen) == "abc"


def test_result_that_found_nothing_is_prepared_without_passages() -> None:
    assert after([""]).frozen == ()
    assert documents.settle(after([""], text="")).frozen == ()
    assert documents.settle(DocumentState()).frozen is None  # nothing was asked yet


def test_first_passages_of_a_short_text_wait_although_nothing_was_prepared_in_a_pause() -> None:
    nothing = documents.settle(after([""], text=""))
    assert documents.observe(nothing, "short", result("ab"), 0.1).frozen == ()
    assert ids(documents.observe(nothing, LONG, result("ab"), 0.1).frozen) == "ab"


def test_passages_that_come_back_are_prepared_again_however_often_others_were() -> None:
    state = after(["a", "b", "c", "", "a", "", "b"], ms_per_token=1e6)
    assert (ids(state.frozen), state.freezes) == ("b", 3)
    assert after(["a", "b", "c", "d", "b"]).frozen == passages("b")


def test_degraded_result_with_passages_serves_where_nothing_was_found_before() -> None:
    state = documents.observe(after([""]), LONG, result("a", "dense only"), 0.1, "committed")
    assert documents.chosen(state, "final") == (passages("a"), ())


def test_degraded_result_does_not_settle_the_one_before_it() -> None:
    state = documents.observe(after(["ab"], text=""), "newer", result("", "timeout"), None)
    assert documents.settle(state).frozen is None


@pytest.mark.parametrize(
    ("results", "frozen", "freezes"),
    [
        (["abcd", "bcda"], "abcd", 1),
        (["abcd", "abce"], "abcd", 1),  # three of five are shared: 0.6
        (["abc", "abd"], "abd", 2),
        (["abcd", ""], "", 1),
        (["abcd", "", "abcd"], "abcd", 1),
        (["a", "b", "c"], "c", 3),
        (["a", "b", "c", "d"], None, 3),
        (["a", "b", "c", "d", "d"], None, 3),
        (["abcd", "abce", "abce"], "abce", 2),  # two agree
        (["abcd", "abce", "abcd"], "abcd", 1),
    ],
)
def test_frozen_passages_are_replaced_once_a_result_is_another_set_twice_at_most(
    results: list[str], frozen: str | None, freezes: int
) -> None:
    state = after(results)
    assert (ids(state.frozen), state.freezes) == (frozen, freezes)


def test_frozen_passages_stand_in_the_order_of_their_ids_whatever_their_scores() -> None:
    state = DocumentState()
    for number, names in enumerate(["abc", "dabc", "edabc"]):
        scored = tuple(Passage(n, f"{n}.md", n * 4, 1.0 / (number + 1)) for n in names)
        state = documents.observe(state, LONG + "...", RetrievalResult(number, scored), 0.1)
    assert (ids(state.frozen), state.freezes) == ("abc", 1)
    scored = passages("fedab")
    state = documents.observe(state, LONG + "...", RetrievalResult(3, scored), 0.1)
    assert (ids(state.frozen), state.freezes) == ("abdef", 2)


def test_result_of_the_committed_text_moves_nothing_that_stands() -> None:
    state = documents.observe(after(["ab"]), LONG, result("cd"), 0.1, "committed")
    assert (ids(state.frozen), ids(state.last)) == ("ab", "cd")
    state = documents.observe(DocumentState(), LONG, result("cd"), 0.1, "committed")
    assert (ids(state.frozen), ids(state.last)) == (None, "cd")


def test_result_that_comes_after_that_of_a_newer_text_is_disregarded() -> None:
    state = after(["ab"])
    late = RetrievalResult(6, passages("cd"))
    assert documents.observe(state, "older", late, 0.1) == state


@pytest.mark.parametrize(
    ("ms_per_token", "frozen"), [(0.5, "cdef"), (0.51, "abcd"), (None, "abcd")]
)
def test_freeze_anew_only_within_the_cost_bound(ms_per_token: float | None, frozen: str) -> None:
    # two new ones of 4000 characters are 2000 tokens, the bound is 1000 ms
    state = after(["abcd", "efcd"], ms_per_token, size=4000)
    assert ids(state.frozen) == frozen


@pytest.mark.parametrize("ms_per_token", [1e6, None])
def test_freeze_anew_of_mostly_other_passages_is_not_bound_by_cost(
    ms_per_token: float | None,
) -> None:
    assert ids(after(["ab", "cda"], ms_per_token).frozen) == "acd"


def test_first_freeze_is_not_bound_by_cost() -> None:
    assert ids(after(["a"], ms_per_token=1e6).frozen) == "a"


def test_degraded_result_keeps_the_last_passages_and_names_the_reason() -> None:
    state = documents.observe(after(["ab"]), "newer", result("", "timeout"), None)
    assert (ids(state.last), state.degraded, state.seen_text) == ("ab", "timeout", "newer")


def test_degraded_result_with_passages_serves_the_answer() -> None:
    state = documents.observe(DocumentState(), LONG, result("ab", "embed"), None, "committed")
    assert documents.chosen(state, "final") == (passages("ab"), ())


def test_degraded_result_never_freezes() -> None:
    state = documents.observe(DocumentState(), LONG, result("ab", "timeout"), None, "paused")
    assert state.frozen is None


def test_good_result_after_a_degraded_one_clears_the_reason() -> None:
    state = documents.observe(after(["a"]), "x", result("", "timeout"), None)
    assert documents.observe(state, "y", result("a"), None).degraded is None


@pytest.mark.parametrize(
    ("results", "before", "behind"),
    [
        (["abc"], "abc", ""),
        (["ab", "ab"], "ab", ""),
        (["ab", "b"], "ab", ""),
        (["ab", ""], "", ""),
        (["ab", "ca"], "ab", "c"),
        (["ab", "cad"], "acd", ""),
        (["ab", "cd"], "cd", ""),
    ],
)
def test_early_passage_missing_from_the_frozen_ones_stands_behind_the_text(
    results: list[str], before: str, behind: str
) -> None:
    frozen, late = documents.chosen(committed(results), "early")
    assert (ids(frozen), ids(late)) == (before, behind)


def test_nothing_found_yet_is_nothing_chosen() -> None:
    assert documents.chosen(DocumentState(), "final") == ((), ())


@pytest.mark.parametrize("before", [[], ["ab"], ["bca"], ["xyz"], ["ab", "cd", "ef", "gh"]])
@pytest.mark.parametrize("final", ["cba", "b", ""])
def test_final_passages_are_those_of_the_committed_text_whatever_came_before(
    before: list[str], final: str
) -> None:
    state = committed([*before, final])
    assert documents.chosen(state, "final") == (passages("".join(sorted(final))), ())
    assert documents.used(state, "final").final


def test_final_passages_that_do_not_come_in_time_leave_the_frozen_ones() -> None:
    late = result("", "timeout")
    state = documents.observe(after(["ba"]), LONG, late, 0.1, "committed")
    assert documents.chosen(state, "final") == (passages("ab"), ())
    assert not documents.used(state, "final").final


def test_result_of_the_committed_text_counts_although_its_revision_is_older() -> None:
    found = RetrievalResult(1, passages("c"))
    state = documents.observe(after(["ab"]), LONG, found, 0.1, "committed")
    assert documents.chosen(state, "final") == (passages("c"), ())


def test_pause_freezes_anew_however_often_that_was_done() -> None:
    state = after(["a", "b", "c", "d"])
    state = documents.observe(state, LONG, result("e"), 0.1, "paused")
    assert ids(state.frozen) == "e"


def test_event_is_stable_while_the_frozen_passages_hold_the_best() -> None:
    assert documents.event(after(["a"]), result("a")).stable is True
    assert documents.event(after(["a"], text=""), result("a")).stable is False
    assert documents.event(committed(["a", "b"]), result("b")).stable is False


def test_event_names_passages_without_their_text() -> None:
    found = documents.event(after(["a"]), result("a", "timeout", size=40))
    assert (found.revision, found.degraded) == (7, "timeout")
    assert [(p.id, p.source, p.score) for p in found.passages] == [("a", "a.md", 0.5)]
    assert "a" * 40 not in repr(found)


def test_freeze_anew_puts_the_passages_in_the_order_of_their_ids() -> None:
    state = after(["abc", "dcb"])
    assert ids(state.frozen) == "bcd"


def test_used_passages_are_those_chosen_by_id() -> None:
    state = committed(["ab", "ca"])
    assert documents.used(state, "early") == DocumentsUsed(("a", "b"), ("c",), final=False)
    assert documents.used(state, "final") == DocumentsUsed(("a", "c"), ())


LONGER = "a text whose end cannot be far any more as it has more than sixty letters by now, "


def sure(share: float) -> Outlook:
    """An outlook by which results of longer texts keep this share of their passages."""
    outlook = Outlook()
    for _ in range(50):
        kept = int(share * 10)
        seen = Seen((2, 0), (*"abcdefghij"[:kept], "x"))
        outlook = outlook.after([seen], tuple("abcdefghij"))
    return outlook


def typed(names: Sequence[str], outlook: Outlook, text: str = LONGER) -> DocumentState:
    state = DocumentState(outlook=outlook)
    for number, each in enumerate(names):
        state = documents.observe(state, f"{text}{number}", result(each), 0.1)
    return state


@pytest.mark.parametrize(
    ("text", "share", "frozen"),
    [(LONGER, 0.8, "abce"), (LONGER, 0.2, "abcd"), (LONG, 0.8, "abcd")],
)
def test_passage_that_changed_is_prepared_at_once_where_it_will_probably_stay(
    text: str, share: float, frozen: str
) -> None:
    assert ids(typed(["abcd", "abce"], sure(share), text).frozen) == frozen


def test_sets_that_will_probably_stay_are_prepared_however_many_there_were() -> None:
    names = ["a", "b", "c", "d", "e", "f"]
    assert ids(typed(names, sure(0.9)).frozen) == "f"
    assert typed(names, sure(0.1)).frozen is None


@pytest.mark.parametrize("moment", ["typing", "paused"])
@pytest.mark.parametrize(
    ("consistency", "found", "frozen"),
    [
        ("early", "abef", "abcd"),  # half of it is late, the best is there
        ("early", "efga", "aefg"),
        ("early", "", ""),
        ("final", "abef", "abef"),
    ],
)
def test_early_passages_stay_while_an_answer_would_get_them(
    consistency: Consistency, found: str, frozen: str, moment: Moment
) -> None:
    state = DocumentState(outlook=sure(0.9))
    state = documents.observe(state, LONGER, result("abcd"), 0.1, "typing", consistency)
    state = documents.observe(state, f"{LONGER} x", result(found), 0.1, moment, consistency)
    assert ids(state.frozen) == frozen
    assert ids(documents.settle(state, None, consistency).frozen) == frozen


def test_turn_teaches_what_its_beginnings_found_of_the_final_passages() -> None:
    state = typed(["abcd", "abce"], Outlook())
    state = documents.observe(state, LONGER, result("abce"), 0.1, "committed")
    known = documents.learned(state, Outlook())
    assert known == Outlook().after(state.seen, tuple("abce"))
    assert [one.passages for one in state.seen] == [tuple("abcd"), tuple("abce")]


@pytest.mark.parametrize("names", [[], ["ab"]])
def test_turn_without_a_final_result_or_beginnings_teaches_nothing(names: list[str]) -> None:
    state = typed(names, Outlook())
    late = result("", "timeout") if names else result("a")
    state = documents.observe(state, LONGER, late, 0.1, "committed")
    assert documents.learned(state, Outlook()) == Outlook()


def test_results_that_are_remembered_are_bounded() -> None:
    state = typed(["ab", "cd"] * 100, Outlook())
    assert len(state.seen) == documents.MOST_SEEN


@pytest.mark.parametrize(
    ("ms_per_token", "text", "names", "frozen"),
    [
        (0.5, LONG, ["ab"], None),  # 2,000 tokens: a second
        (0.5, LONG, ["ab", "ab"], "ab"),
        (0.5, LONG, ["ab", "cd"], None),
        (0.51, LONG, ["ab"], "ab"),
        (None, LONG, ["ab"], "ab"),
        (0.5, LONGER, ["ab"], "ab"),
    ],
)
def test_first_passages_wait_for_another_result_where_time_is_enough_to_prepare_them(
    monkeypatch: pytest.MonkeyPatch,
    ms_per_token: float | None,
    text: str,
    names: list[str],
    frozen: str | None,
) -> None:
    monkeypatch.setattr(documents, "SOON_MS", 1000.0)
    assert ids(after(names, ms_per_token, size=4000, text=text).frozen) == frozen


def test_first_passages_wait_for_nothing_where_early_ones_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(documents, "SOON_MS", 1000.0)
    found = result("ab")
    early = documents.observe(DocumentState(), LONG, found, 0.1, "typing", "early")
    final = documents.observe(DocumentState(), LONG, found, 0.1, "typing", "final")
    assert (ids(early.frozen), final.frozen) == ("ab", None)


def test_first_passages_that_wait_are_prepared_at_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "SOON_MS", 1000.0)
    assert ids(documents.settle(after(["ab"])).frozen) == "ab"


def test_text_that_finds_nothing_waits_for_no_second_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(documents, "SOON_MS", 1000.0)
    assert after([""]).frozen == ()
    assert ids(after(["ab", "ab", "", "ab"]).frozen) == "ab"  # it is in the cache
