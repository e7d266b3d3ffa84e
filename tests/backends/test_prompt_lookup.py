"""What followed the last tokens where they stood before, as long as it pays."""

from __future__ import annotations

import random

from hypothesis import given, strategies as st

from livemind.backends.prompt_lookup import MOST_PLACES, PromptLookup

PASSAGE = list(range(100, 140))


def answered(lookup: PromptLookup, answer: list[int], most: int = 15) -> tuple[int, int]:
    """Play an engine that verifies proposals; return its steps and the tokens it verified."""
    place = steps = verified = 0
    while place < len(answer):
        steps += 1
        proposal = [] if place == 0 else lookup.propose(most)
        verified += len(proposal)
        right = 0
        while right < len(proposal) and answer[place : place + right + 1][right:] == [
            proposal[right]
        ]:
            right += 1
        step = answer[place : place + right + 1]
        lookup.advance(step)
        place += len(step)
    return steps, verified


def test_lookup_of_an_answer_that_quotes_takes_few_steps() -> None:
    steps, verified = answered(PromptLookup([1, 2, *PASSAGE, 3, 4]), PASSAGE)
    assert steps <= 3 + 4  # the key, then 3, 6, 12, 15 at a time
    assert verified < 2 * len(PASSAGE)


def test_lookup_before_three_tokens_agree_proposes_nothing() -> None:
    lookup = PromptLookup([7, 8, 9, 10])
    assert lookup.propose(5) == []
    lookup.advance([8, 9])
    assert lookup.propose(5) == []  # 10 8 9 is not 7 8 9
    assert PromptLookup([1]).propose(5) == []
    assert PromptLookup([]).propose(5) == []


def test_lookup_before_the_answer_has_three_tokens_does_not_read_the_prompt() -> None:
    lookup = PromptLookup([1, 2, 3, 4, 5, 0, 1, 2])
    lookup.advance([3])
    assert lookup.propose(5) == []
    assert lookup._latest == {}
    lookup.advance([4, 5])
    assert lookup.propose(3) == [0, 1, 2]


def test_lookup_of_several_places_takes_the_longest_then_the_latest() -> None:
    longest = PromptLookup([5, 1, 2, 3, 50, 6, 1, 2, 3, 60, 0])
    longest.advance([5, 1, 2, 3])
    assert longest.propose(1) == [50]
    latest = PromptLookup([1, 2, 3, 50, 1, 2, 3, 60, 0])
    latest.advance([1, 2, 3])
    assert latest.propose(1) == [60]


def test_lookup_finds_what_the_answer_itself_said() -> None:
    lookup = PromptLookup([0])
    lookup.advance([1, 2, 3, 4, 5, 1, 2, 3])
    assert lookup.propose(2) == [4, 5]


def test_lookup_never_more_than_is_allowed() -> None:
    lookup = PromptLookup(PASSAGE)
    lookup.advance(PASSAGE[:4])
    assert lookup.propose(2) == PASSAGE[4:6]
    assert lookup.propose(0) == []


def test_lookup_that_is_always_wrong_costs_little() -> None:
    numbers = random.Random(0)
    prompt = [token for key in range(400) for token in (1, 2, 3, 1000 + key)]
    answer = [token for _ in range(100) for token in (1, 2, 3, numbers.randrange(9000, 9999))]
    steps, verified = answered(PromptLookup(prompt), answer)
    assert steps >= len(answer) * 0.7  # 1 2 3 itself comes back, its end never does
    assert verified <= 1.5 * len(answer)
    assert MOST_PLACES < 400


@given(
    st.lists(st.integers(0, 3), max_size=60),
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), max_size=20),
)
def test_lookup_of_any_text_proposes_what_followed_an_equal_end(
    prompt: list[int], steps: list[list[int]]
) -> None:
    lookup, tokens = PromptLookup(prompt), list(prompt)
    for step in steps:
        lookup.advance(step)
        tokens += step
        proposal = lookup.propose(9)
        assert len(proposal) <= 9
        if proposal:
            places = range(3, len(tokens))
            assert any(
                tokens[place - 3 : place] == tokens[-3:]
                and tokens[place : place + len(proposal)] == proposal
                for place in places
            )
