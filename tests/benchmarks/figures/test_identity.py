from __future__ import annotations

import pytest

from livemind.benchmarks.figures.identity import Explanation, TokenChoice, compare, identical_share


def _run(gap: float) -> Explanation:
    """The tokens of "the red cat", where "blue" was ``gap`` nats behind "red"."""
    red, end = ((" red", -1.0), (" blue", -1.0 - gap), (" bl", -4.0)), (" now", -0.21)
    tokens = (
        TokenChoice("the", -0.1, (("the", -0.1), ("a", -3.0))),
        TokenChoice(" red", -1.0, red, start=3),
        TokenChoice(" cat", -0.2, ((" cat", -0.2), (" dog", -0.21), ("<|end|>", -0.21)), start=7),
        TokenChoice("<|end|>", -0.2, (("<|end|>", -0.2), end), start=11),
    )
    return Explanation("the red cat", tokens)


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
    other = Explanation("one red cat", _run(0.0).tokens)
    assert compare("the red cat", "the blue cat", other).verdict == "different"


@pytest.mark.parametrize(
    ("reference", "text", "index"),
    [("the red cat", "the red", 2), ("the red cat", "the red cat now", 3)],
    ids=["ends-earlier", "goes-on"],
)
def test_compare_answer_that_ends_elsewhere_is_judged_by_the_end_token(
    reference: str, text: str, index: int
) -> None:
    found = compare(reference, text, _run(1.0))
    assert (found.verdict, found.token_index) == ("tie", index)


@pytest.mark.parametrize(("gap", "verdict"), [(0.01, "tie"), (0.5, "different")], ids=str)
def test_compare_character_of_several_tokens_is_judged_at_its_closest_token(
    gap: float, verdict: str
) -> None:
    part = TokenChoice("\ufffd", -1.0, (("\ufffd", -1.0), ("b", -1.0 - gap)), start=1)
    rest = TokenChoice("\ufffd", -0.1, (("\ufffd", -0.1),), start=1)
    told = Explanation("a\u00e9", (TokenChoice("a", -0.1), part, rest))
    assert compare("a\u00e9", "ab", told).verdict == verdict


def test_identical_share_counts_ties_unless_strict() -> None:
    assert identical_share(["identical", "tie", "different", "identical"]) == 0.75
    assert identical_share(["identical", "tie", "different", "identical"], strict=True) == 0.5
    assert identical_share([]) is None
