"""What earlier turns say of documents that were found for a beginning."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from livemind.orchestrator.turn.passages.outlook import (
    MOST_TURNS,
    PRIOR_TURNS,
    PRIORS,
    Outlook,
    Seen,
    situation,
)

SITUATIONS = [(row, column) for row in range(3) for column in range(3)]


def learned(*turns: tuple[str, str], at: tuple[int, int] = (2, 0)) -> Outlook:
    outlook = Outlook()
    for seen, final in turns:
        outlook = outlook.after([Seen(at, tuple(seen))], tuple(final))
    return outlook


@pytest.mark.parametrize(
    ("letters", "streak", "found"),
    [(0, 1, (0, 0)), (39, 2, (0, 1)), (40, 3, (1, 2)), (59, 9, (1, 2)), (60, 1, (2, 0))],
)
def test_situation_is_told_by_length_and_streak(
    letters: int, streak: int, found: tuple[int, int]
) -> None:
    assert situation(letters, streak) == found


@pytest.mark.parametrize("at", SITUATIONS)
def test_outlook_of_a_first_turn_is_the_prior(at: tuple[int, int]) -> None:
    assert Outlook().expected(at) == PRIORS[at[0]][at[1]]


@pytest.mark.parametrize(
    ("seen", "final", "share"),
    [
        ("abcd", "abcd", 1.0),
        ("abce", "abcd", 0.75),
        ("bcd", "abcd", 0.0),
        ("abcd", "ab", 1.0),
        ("", "", 1.0),
        ("a", "", 0.0),
        ("", "a", 0.0),
    ],
)
def test_outlook_after_a_turn_counts_what_stands_before_the_first_difference(
    seen: str, final: str, share: float
) -> None:
    prior = PRIORS[2][0]
    expected = (PRIOR_TURNS * prior + share) / (PRIOR_TURNS + 1)
    assert learned((seen, final)).expected((2, 0)) == pytest.approx(expected)


def test_outlook_after_a_turn_of_many_words_counts_it_once() -> None:
    words = [Seen((2, 0), ("a",)), Seen((2, 0), ("b",)), Seen((2, 1), ("a",))]
    outlook = Outlook().after(words, ("a",))
    assert outlook.expected((2, 0)) == pytest.approx((6 * 0.6 + 0.5) / 7)
    assert outlook.expected((2, 1)) == pytest.approx((6 * 0.72 + 1.0) / 7)
    assert outlook.expected((1, 0)) == pytest.approx(PRIORS[1][0])


def test_outlook_of_a_collection_that_changed_follows_within_some_turns() -> None:
    wrong = [("b", "a")] * 500
    right = [("a", "a")] * int(MOST_TURNS)
    assert learned(*wrong).expected((2, 0)) < 0.1
    assert learned(*wrong, *right).expected((2, 0)) > 0.5


turns = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(SITUATIONS), st.text("abc", max_size=4)), max_size=5),
        st.text("abc", max_size=4),
    ),
    max_size=80,
)


@given(turns)
def test_expected_share_after_any_turns_is_a_share(
    played: list[tuple[list[tuple[tuple[int, int], str]], str]],
) -> None:
    outlook = Outlook()
    for seen, final in played:
        told = [Seen(at, tuple(names)) for at, names in seen]
        outlook = outlook.after(told, tuple(final))
    assert all(0.0 <= outlook.expected(at) <= 1.0 for at in SITUATIONS)
    assert all(weight <= MOST_TURNS for weight in outlook.weights)
