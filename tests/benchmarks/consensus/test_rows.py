"""What the consensus benchmark makes of its rows, and the questions behind them."""

from __future__ import annotations

import random
from typing import Any

import pytest

from livemind.benchmarks.answers.questions import AskedQuestion
from livemind.benchmarks.consensus.model_questions import ModelQuestions
from livemind.benchmarks.consensus.questions import SETS, GeneratedKey, paused, questions
from livemind.benchmarks.consensus.rows import Row
from livemind.benchmarks.consensus.summary import cases, summary
from livemind.benchmarks.workload.typing_model import Key, cadence
from livemind.orchestrator.consensus.canonical import canonical

DOMAINS = ("technical", "coding")


def turn(part: str, arm: str, question: int = 0, **more: Any) -> Row:
    told = {"set": "in_domain", "domain": "technical", "leader": "technical", **more}
    return Row(
        part=part, arm=arm, question=question, outcome=told.pop("outcome", "completed"), **told
    )


def accuracy(question: int, right: dict[str, bool], **more: Any) -> list[Row]:
    return [turn("accuracy", arm, question, right=value, **more) for arm, value in right.items()]


def figures(rows: list[Row]) -> dict[str, float | None]:
    return summary(cases(rows, seed=1))


# ---- questions


def test_questions_of_each_set_are_what_its_name_says() -> None:
    found = questions(DOMAINS, 4, seed=1)
    assert {(one.kind, one.domain) for one in found} == {(k, d) for k in SETS for d in DOMAINS}
    assert len(found) == 4 * len(SETS) * len(DOMAINS)
    for one in found:
        assert isinstance(one.key, GeneratedKey)
        refused = one.key.turn.kind == "refuse"
        assert refused == (one.kind == "unanswerable") or one.kind == "mixed"
        assert (one.leader != one.domain) == (one.kind == "out_of_domain")


def test_questions_are_all_different_and_the_same_for_a_seed() -> None:
    found = questions(DOMAINS, 6, seed=1)
    assert len({(one.history, one.text) for one in found}) == len(found)
    assert found == questions(DOMAINS, 6, seed=1)
    assert found != questions(DOMAINS, 6, seed=2)


def test_questions_of_one_domain_cannot_be_routed_wrong() -> None:
    assert {one.kind for one in questions(("coding",), 2, seed=1)} == set(SETS) - {"out_of_domain"}


def test_pause_falls_in_the_second_half_and_before_the_mark() -> None:
    text = "What is the port of Kestrel?"
    found = {paused(text, random.Random(seed)) for seed in range(50)}
    assert found == {
        "What is the", "What is the port", "What is the port of", "What is the port of Kestrel",
    }  # fmt: skip


# ---- accuracy


def test_best_single_expert_is_chosen_on_validation_not_on_what_is_measured() -> None:
    rows = [turn("validation", "alone.fast", n, right=True) for n in range(3)]
    rows += [turn("validation", "alone.technical", n, right=n == 0) for n in range(3)]
    rows += accuracy(0, {"alone.fast": False, "alone.technical": True})
    found = figures(rows)
    assert found["consensus.single.accuracy"] == 0.0
    assert found["consensus.strong.accuracy"] == found["consensus.first.accuracy"] == 1.0


def test_wrong_route_first_is_the_leader_and_strong_the_domains_expert() -> None:
    right = {"alone.fast": False, "alone.technical": False, "alone.coding": True}
    rows = accuracy(0, right, domain="coding", leader="technical", set="out_of_domain")
    found = figures(rows)
    assert found["consensus.first.accuracy"] == 0.0
    assert found["consensus.strong.accuracy"] == 1.0
    assert found["consensus.strong.accuracy.out_of_domain"] == 1.0
    assert found["consensus.strong.accuracy.in_domain"] is None


def test_gain_over_single_is_paired_and_oracle_needs_one_right_expert() -> None:
    rows = []
    for number in range(4):
        alone = {"alone.fast": number == 0, "alone.technical": number == 1}
        kind = "out_of_domain" if number == 0 else "in_domain"
        rows += accuracy(number, {**alone, "vote": number < 2}, set=kind)
    found = figures(rows)
    assert found["consensus.vote.accuracy_minus_single"] == pytest.approx(0.25)
    assert found["consensus.vote.accuracy_minus_single.routed_right"] == 0.0
    assert found["consensus.vote.accuracy"] == 0.5
    assert found["consensus.vote.accuracy.routed_right"] == pytest.approx(1 / 3)
    assert found["consensus.oracle.accuracy"] == 0.5
    case = cases(rows, seed=1)[0]["arms"]
    low, high = case["vote"]["minus_single_ci95"]
    assert low <= 0.25 <= high
    assert "consensus.oracle.ttft_ms.p50" not in found


def test_failed_turn_counts_as_wrong_and_has_no_time() -> None:
    rows = accuracy(0, {"alone.technical": True}, ttft_ms=10.0)
    rows += accuracy(1, {"alone.technical": False}, outcome="failed", ttft_ms=500.0, error="x")
    found = figures(rows)
    assert found["consensus.first.accuracy"] == 0.5
    assert found["consensus.first.ttft_ms.p50"] == 10.0
    assert cases(rows, 1)[0]["arms"]["first"]["errors"] == ["x"]


def test_verify_wrong_given_accepted_is_of_the_fast_experts_answers_alone() -> None:
    def verify(number: int, right: bool, *authors: str) -> list[Row]:
        return accuracy(number, {"verify": right}, authors=authors, settled_by=("author",))

    rows = verify(0, True, "fast") + verify(1, False, "fast")
    rows += verify(2, True, "fast", "technical") + verify(3, True, "technical")
    found = figures(rows)
    assert found["consensus.verify.accepted_share"] == 0.5
    assert found["consensus.verify.wrong_given_accepted"] == 0.5
    assert found["consensus.verify.wrong_given_taken_over"] == 0.0


def test_costs_count_every_token_and_each_fallback_once() -> None:
    rows = accuracy(0, {"vote": True}, shown_tokens=10, generated_tokens=20)
    more = {"settled_by": ("deadline",), "abstained": ("fast",)}
    rows += accuracy(1, {"vote": True}, shown_tokens=10, generated_tokens=30, **more)
    found = figures(rows)
    assert found["consensus.vote.tokens_per_shown"] == 2.5
    assert found["consensus.vote.deadline_share"] == found["consensus.vote.abstained_share"] == 0.5


# ---- draft and typed


def test_speedup_is_paired_by_question_and_text_before() -> None:
    def pair(kind: str, first_ms: float, draft_ms: float, *tokens: int) -> list[Row]:
        accepted, rejected = tokens
        more: dict[str, Any] = {
            "kind": kind,
            "accepted_tokens": accepted,
            "rejected_tokens": rejected,
        }
        return [
            turn("pairs", "first", kind=kind, total_ms=first_ms),
            turn("pairs", "draft", total_ms=draft_ms, **more),
        ]

    rows = pair("pause", 100.0, 50.0, 2, 3) + pair("right", 90.0, 30.0, 5, 0)
    rows += pair("wrong", 100.0, 125.0, 0, 5)
    rows.append(turn("pairs", "draft", 1, kind="wrong", total_ms=1.0))
    found = figures(rows)
    assert found["consensus.draft.completion_speedup.pause"] == 2.0
    assert found["consensus.draft.completion_speedup.unmarked"] == 3.0
    assert found["consensus.draft.completion_speedup.right"] == 3.0
    assert found["consensus.draft.completion_speedup.wrong"] == 0.8
    assert found["consensus.draft.accepted_token_share"] == pytest.approx(7 / 15)


def test_mix_is_one_figure_over_all_typed_questions_and_one_for_what_was_there() -> None:
    def typed(number: int, times_ms: tuple[float, float, float], **drafted: Any) -> list[Row]:
        arms = dict(zip(("alone", "first", "draft"), times_ms, strict=True))
        return [
            turn("mix", arm, number, kind="typing-400", total_ms=ms,
                 **(drafted if arm == "draft" else {}))
            for arm, ms in arms.items()
        ]  # fmt: skip

    rows = typed(0, (50.0, 1.0, 1.0), before_commit=True, accepted_tokens=3)
    rows += typed(1, (60.0, 60.0, 30.0), before_commit=False, accepted_tokens=3)
    rows += typed(2, (50.0, 50.0, 50.0), before_commit=False)
    rows += typed(3, (40.0, 40.0, 20.0), before_commit=False, accepted_tokens=0)
    rows += [turn("mix", "draft", 4, kind="typing-400", outcome="failed", total_ms=1.0)]
    found = figures(rows)
    assert found["consensus.draft.completion_speedup.p50"] == 2.0
    assert found["consensus.draft.completion_speedup.over_first"] == 1.5
    (case,) = cases(rows, 1)
    shares = {name: one["share"] for name, one in case["found"].items()}
    assert shares == {"answer": 0.2, "guess": 0.4, "nothing": 0.4}
    assert case["found"]["guess"]["speedup"]["first"]["p50"] == 2.0
    assert case["speedup"]["alone"]["of_sums"] == pytest.approx(200 / 101)


def test_identical_share_has_ties_but_for_the_strict_one() -> None:
    verdicts = ("identical", "tie", "different", "identical", None)
    rows = [turn("identical", "draft", n, verdict=one) for n, one in enumerate(verdicts)]
    found = figures(rows)
    assert found["consensus.draft.identical_share"] == 0.75
    assert found["consensus.draft.identical_share_strict"] == 0.5
    assert found["consensus.draft.identical_turns"] == 4


def test_settled_before_commit_is_of_typed_votes() -> None:
    rows = [turn("typed", "vote", n, before_commit=n < 3) for n in range(4)]
    rows += [turn("typed", "first", 0, before_commit=False)]
    assert figures(rows)["consensus.vote.settled_before_commit_share"] == 0.75


def test_nothing_measured_is_unknown_never_zero() -> None:
    found = figures([])
    assert found
    assert set(found.values()) == {None}


def test_row_comes_back_from_its_json() -> None:
    row = turn("accuracy", "vote", 3, right=False, ttft_ms=0.0, abstained=("fast",))
    told = row.as_json()
    assert told["right"] is False
    assert "verdict" not in told
    assert Row.from_json({**told, "abstained": ["fast"]}) == row


# ---- questions about a pasted passage


def test_model_questions_of_each_set_have_the_form_that_their_answers_are_compared_in() -> None:
    found = ModelQuestions("large").measured(20, seed=1)
    forms = {(one.kind, one.form, one.labels) for one in found}
    assert forms == {
        ("number", "number", ()), ("choice", "label", ("yes", "no")), ("open", "text", ())
    }  # fmt: skip
    assert [one.number for one in found] == list(range(60))
    asked = {one.text for one in found}
    assert asked.isdisjoint(one.text for one in ModelQuestions("large").validation(30, seed=1))


def test_model_questions_right_answers_are_right_in_the_form_they_are_compared_in() -> None:
    for one in ModelQuestions("large").measured(20, seed=1):
        assert isinstance(one.key, AskedQuestion)
        said = f"It is {one.key.right[0]}."
        assert one.is_right(said)
        assert canonical(said, one.form, one.labels) is not None
        assert not one.is_right("Nobody knows")


@pytest.mark.parametrize("name", ["typing-400", "edits-400", "pauses-400"])
def test_model_question_keys_paste_the_passage_and_type_the_question(name: str) -> None:
    (question, *_) = ModelQuestions("large").natural(1, seed=1)
    keys = question.keys(cadence(name), random.Random(1))
    assert keys[0] == Key(0.0, question.pasted)
    text = ""
    for key in keys:
        text = key.text if key.replaces else text + key.text
        assert text.startswith(question.pasted)
    assert text == question.text
    assert len(keys) >= len(question.typed)
