from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from livemind.benchmarks.figures.answer import Answer
from livemind.benchmarks.figures.measure import (
    Slo,
    distribution,
    first_sentence_ms,
    gaps_ms,
    ledger_tokens,
    row,
    timeline,
    tokens_per_s,
    tpot_ms,
)
from livemind.benchmarks.figures.turns import Turn, misrouted
from livemind.benchmarks.workload.arms import C, E


def _answer(*pieces: tuple[float, str], **more: Any) -> Answer:
    answer = Answer("completed", committed_s=10.0)
    for at_s, text in pieces:
        answer.take(at_s, text)
    for name, value in more.items():
        setattr(answer, name, value)
    return answer


ANSWER = _answer(
    (10.1, "One"), (10.2, " two. Th"), (10.4, "ree."), ended_s=10.5, completion_tokens=7
)


def _row(answer: Answer) -> dict[str, Any]:
    return row("case", 0, "x", Turn(E, 0, 0, 0, "why?", 0.2, answer))


def test_times_of_a_turn_follow_the_formulas() -> None:
    assert ANSWER.ttft_ms == pytest.approx(100.0)
    assert ANSWER.e2e_ms == pytest.approx(500.0)
    assert gaps_ms([_row(ANSWER)]) == pytest.approx([100.0, 200.0])
    assert tpot_ms(ANSWER) == pytest.approx(300.0 / 6)
    assert tokens_per_s(ANSWER) == pytest.approx(14.0)
    assert first_sentence_ms(ANSWER) == pytest.approx(200.0)


@pytest.mark.parametrize(
    ("text", "complete"),
    [("The end.", True), ("v1.2 of", False), ("Wirklich? Ja", True), ("好。", True), ("", False)],
)
def test_first_sentence_needs_a_mark_and_an_end(text: str, complete: bool) -> None:
    assert (first_sentence_ms(_answer((10.1, text))) is not None) is complete


def test_turn_without_text_or_usage_has_no_time_rather_than_zero() -> None:
    silent = Answer("completed", committed_s=1.0, ended_s=2.0)
    assert silent.ttft_ms is None
    assert tpot_ms(silent) is None
    assert tokens_per_s(silent) is None
    assert ledger_tokens(silent) == {"speculated": None, "adopted": None, "wasted": None}
    assert tpot_ms(_answer((10.1, "x"), completion_tokens=1)) is None


def test_piece_without_text_is_no_first_token() -> None:
    assert _answer((10.1, ""), (10.3, "x")).ttft_ms == pytest.approx(300.0)


@pytest.mark.parametrize(
    ("slo", "met"),
    [
        (Slo(100.1), True),
        (Slo(99.9), False),
        (Slo(None, 50.1), True),
        (Slo(100.1, 49.9), False),
    ],
)
def test_slo_needs_every_limit(slo: Slo, met: bool) -> None:
    assert slo.met_by(_row(ANSWER)) is met


def test_slo_is_not_met_by_failures_and_unknown_times() -> None:
    assert not Slo(1000.0).met_by(_row(replace(ANSWER, outcome="failed")))
    assert not Slo(None, 1000.0).met_by(_row(replace(ANSWER, completion_tokens=None)))


def test_books_add_prefill_and_drafts() -> None:
    ledger = {
        "prefill_speculated": 5, "prefill_adopted": 3, "prefill_wasted": 2,
        "draft_speculated": 4, "draft_adopted": 0, "draft_wasted": 4,
    }  # fmt: skip
    found = ledger_tokens(replace(ANSWER, ledger=ledger))
    assert found == {"speculated": 9, "adopted": 3, "wasted": 6}


def test_timeline_counts_from_the_commit_and_keeps_no_text() -> None:
    events: list[tuple[float, dict[str, Any]]] = [
        (9.0, {"type": "route.updated", "expert": "a", "confidence": 0.9, "stable": True}),
        (9.5, {"type": "retrieval.updated", "passages": [{"id": "p"}], "stable": False}),
        (9.6, {"type": "session.updated", "session": {}}),
    ]
    line = timeline(replace(ANSWER, keys_s=[8.0, 8.5], events=events))
    assert line is not None
    assert line["keys_ms"] == [-2000.0, -1500.0]
    kinds = [event["type"] for event in line["events"]]
    assert kinds == ["route.updated", "retrieval.updated", "commit", "first_token", "done"]
    assert line["events"][1] == {
        "at_ms": -500.0, "type": "retrieval.updated", "passages": 1, "stable": False,
    }  # fmt: skip


def test_row_of_a_lost_turn_has_no_times() -> None:
    lost = Turn(E, 0, 0, 0, "why?", 0.2, Answer(outcome="error", error="gone"))
    found = row("case", 0, "x", lost)
    assert (found["outcome"], found["error"], found["typed_chars"]) == ("error", "gone", 4)
    for name in ("ttft_ms", "e2e_ms", "timeline", "prompt_tokens", "cost_multiplier", "verdict"):
        assert found[name] is None, name


def test_misrouted_counts_only_where_a_router_chose() -> None:
    turn = Turn(C, 0, 0, 0, "", 0.0, replace(ANSWER, expert="other"))
    assert misrouted(turn, "mine")
    assert not misrouted(turn, "other")
    assert not misrouted(replace(turn, answer=replace(ANSWER, expert=None)), "mine")
    assert not misrouted(replace(turn, arm=replace(C, routed=False)), "mine")


def test_distribution_leaves_unknown_values_out_and_is_unknown_without_any() -> None:
    found = distribution([1.0, None, 3.0])
    assert (found["p50"], found["mean"], found["n"]) == (2.0, 2.0, 2)
    assert distribution([None]) == {
        "p50": None, "p90": None, "p95": None, "p99": None, "mean": None, "n": 0,
    }  # fmt: skip
