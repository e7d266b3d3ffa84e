"""Following an answer along a draft: what is proposed, what is counted, what it costs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from livemind.backends.drafts import (
    ALLOWED_LOSS,
    ALLOWED_LOSS_STEPS,
    PROPOSAL_COST_STEPS,
    TOKEN_COST_STEPS,
    DraftCount,
    DraftCursor,
    DraftFeed,
)

VirtualRun = Callable[[Coroutine[Any, Any, Any]], Any]


def decode(answer: Sequence[int], draft: Sequence[int], most: int = 16) -> tuple[int, int, int]:
    """Decode as an engine with exact verification does; return steps, refused tokens, accepted."""
    steps, proposals, accepted = decoded(answer, draft, most)
    return steps, sum(proposed - right for proposed, right in proposals), accepted


def decoded(
    answer: Sequence[int], draft: Sequence[int], most: int = 16
) -> tuple[int, list[tuple[int, int]], int]:
    """Return steps, (tokens proposed, right ones) of each proposal, and tokens accepted."""
    cursor = DraftCursor(draft)
    steps = done = 0
    proposals: list[tuple[int, int]] = []
    while done < len(answer):
        proposal = cursor.propose(most) if done else []
        right = 0
        while (
            right < len(proposal)
            and done + right < len(answer) - 1
            and proposal[right] == answer[done + right]
        ):
            right += 1
        if proposal:
            proposals.append((len(proposal), right))
        cursor.advance(answer[done : done + right + 1])
        done += right + 1
        steps += 1
    return steps, proposals, cursor.accepted


def test_cursor_right_draft_is_taken_over_in_few_steps() -> None:
    answer = list(range(64))
    steps, _, accepted = decode(answer, [*answer, 99])
    assert steps <= 6
    assert accepted == 64


def test_cursor_draft_wrong_from_the_first_token_is_never_proposed() -> None:
    assert decode(range(64), range(100, 164)) == (64, 0, 0)


@pytest.mark.parametrize(
    ("draft", "accepted"),
    [
        ([*range(20), 99, *range(21, 64)], 63),
        ([*range(20), *range(30, 64)], 54),
        ([*range(20), 97, 98, 99, *range(20, 64)], 64),
    ],
    ids=["another token", "ten tokens left out", "three tokens too many"],
)
def test_cursor_after_a_divergence_the_draft_is_found_again(
    draft: list[int], accepted: int
) -> None:
    steps, refused, counted = decode(range(64), draft)
    assert counted == accepted
    assert steps < 30
    assert refused < 20


def test_cursor_repetitive_wrong_draft_costs_little() -> None:
    rng = random.Random(7)
    words = range(4)  # any two tokens occur again and again
    answer = [rng.choice(words) for _ in range(512)]
    draft = [rng.choice(words) for _ in range(512)]
    steps, proposals, _ = decoded(answer, draft)
    gained = len(answer) - steps
    costs = [PROPOSAL_COST_STEPS + TOKEN_COST_STEPS * proposed for proposed, _ in proposals]
    assert sum(proposed - right for proposed, right in proposals) > 10
    assert sum(costs) <= gained + ALLOWED_LOSS_STEPS + ALLOWED_LOSS * len(answer) + max(costs)


@pytest.mark.parametrize("wrong", [{3}, {3, 5}, {3, 9, 40}], ids=str)
def test_cursor_drafted_words_that_were_replaced_cost_a_step_each(wrong: set[int]) -> None:
    answer = list(range(48))
    draft = [999 if place in wrong else token for place, token in enumerate(answer)]
    steps, _, accepted = decode(answer, draft)
    whole, _, _ = decode(answer, answer)
    assert accepted == len(answer) - len(wrong)
    assert steps <= whole + 2 * len(wrong)


def test_cursor_after_a_proposal_wrong_from_its_beginning_nothing_is_taken_to_be_replaced() -> None:
    cursor = DraftCursor(range(12))
    cursor.advance([0])
    assert cursor.propose(4) == [1, 2, 3, 4]
    cursor.advance([1, 2, 3, 4, 5])
    assert cursor.propose(8) == [6, 7, 8, 9, 10, 11]
    cursor.advance([99])
    assert cursor.propose(8) == []
    cursor.advance([7])
    assert cursor.propose(8) == []
    cursor.advance([8])
    assert cursor.propose(8) == [9, 10, 11]


def test_cursor_two_other_tokens_in_a_row_are_no_replacement() -> None:
    cursor = DraftCursor(range(20))
    cursor.advance([0, 1, 2, 97])
    assert cursor.propose(3) == [4, 5, 6]
    cursor = DraftCursor(range(20))
    cursor.advance([0, 1, 2, 97, 98])
    assert cursor.propose(3) == []
    cursor.advance([12, 13])
    assert cursor.propose(3) == [14, 15, 16]


def test_cursor_draft_written_anew_while_the_answer_goes_on_is_joined_after_a_replaced_token() -> (
    None
):
    cursor = DraftCursor([1, 2, 3, 70, 71, 72, 73, 74])
    cursor.advance([1, 2, 3, 4])
    cursor.extend([2, 3, 4, 5, 6, 7, 8, 9])
    cursor.advance([5, 6])
    assert cursor.propose(8) == [7, 8, 9]


def test_cursor_a_few_tokens_at_the_end_are_no_step_of_their_own() -> None:
    cursor = DraftCursor(range(11))
    cursor.advance([0])
    assert cursor.propose(16) == list(range(1, 11))
    cursor = DraftCursor(range(30))
    cursor.advance([0])
    assert cursor.propose(16) == list(range(1, 8))


def test_cursor_draft_that_comes_late_is_joined() -> None:
    cursor = DraftCursor([1, 2])
    cursor.advance([1, 2, 3, 4])
    assert cursor.propose(8) == []
    cursor.extend([3, 4, 5, 6])
    assert cursor.propose(8) == [5, 6]
    assert cursor.accepted == 4


def test_cursor_no_token_of_the_draft_is_used_twice() -> None:
    cursor = DraftCursor([1, 2, 3])
    cursor.advance([1, 2, 3, 1, 2, 3, 1, 2])
    assert cursor.propose(8) == []
    assert cursor.accepted == 3


def test_count_both_numbers_together_are_the_draft() -> None:
    count = DraftCount(DraftFeed.of([1, 2, 3, 9, 9]))
    count.saw([1, 2])
    count.saw([3, 4])
    assert count.accepted_and_rejected() == (3, 2)
    assert DraftCount(None).accepted_and_rejected() == (None, None)


def test_feed_reader_gets_what_is_pushed_and_the_end(virtual_run: VirtualRun) -> None:
    async def main() -> None:
        feed = DraftFeed([1])
        got: list[list[int]] = []

        async def read() -> None:
            known = 1
            while tokens := await feed.later(known):
                known += len(tokens)
                got.append(tokens)

        reader = asyncio.create_task(read())
        await asyncio.sleep(1)
        feed.push([2])
        feed.push([3])
        await asyncio.sleep(1)
        feed.push([4])
        feed.close()
        await reader
        assert got == [[2, 3], [4]]
        with pytest.raises(ValueError, match="closed"):
            feed.push([5])

    virtual_run(main())
