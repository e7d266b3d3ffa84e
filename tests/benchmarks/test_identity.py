from __future__ import annotations

import pytest

from livemind.benchmarks.identity import TokenChoice, compare, identical_share


def _run(gap: float) -> list[TokenChoice]:
    """The tokens of "the red cat", where "blue" was ``gap`` nats behind "red"."""
    return [
        TokenChoice("the", -0.1, (("the", -0.1), ("a", -3.0))),
        TokenChoice(" red", -1.0, ((" red", -1.0), (" blue", -1.0 - gap), (" bl", -4.0))),
        TokenChoice(" cat", -0.2, ((" cat", -0.2), (" dog", -0.21))),
    ]


def test_compare_equal_texts_are_identical() -> None:
    assert compare("the red cat", "the red cat").verdict == "identical"


@pytest.mark.parametrize(
    ("gap", "verdict"), [(0.0, "tie"), (0.019, "tie"), (0.021, "different")], ids=str
)
def test_compare_first_difference_is_judged_by_its_logprobs(gap: float, verdict: str) -> None:
    found = compare("the red cat", "the blue dog", _run(gap))
    assert (found.verdict, found.token_index) == (verdict, 1)
    assert found.gap_nats == pytest.approx(gap)


def test_compare_later_near_tie_does_not_excuse_the_first_difference() -> None:
    assert compare("the red cat", "a red dog", _run(0.0)).verdict == "different"


def test_compare_without_logprobs_a_difference_is_a_difference() -> None:
    assert compare("the red cat", "the blue cat").verdict == "different"


def test_compare_rival_not_among_the_best_is_different() -> None:
    found = compare("the red cat", "the green cat", _run(0.0))
    assert (found.verdict, found.gap_nats) == ("different", None)


def test_compare_explaining_run_that_itself_differs_explains_nothing() -> None:
    other = [TokenChoice("one", -0.1), *_run(0.0)[1:]]
    assert compare("the red cat", "the blue cat", other).verdict == "different"


def test_compare_answer_that_only_ended_earlier_is_different() -> None:
    assert compare("the red cat", "the red", _run(0.0)).verdict == "different"


def test_identical_share_counts_ties_unless_strict() -> None:
    assert identical_share(["identical", "tie", "different", "identical"]) == 0.75
    assert identical_share(["identical", "tie", "different", "identical"], strict=True) == 0.5
    assert identical_share([]) is None
