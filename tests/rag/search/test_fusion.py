"""Two rankings made one."""

from __future__ import annotations

import pytest

from livemind.rag.search.fusion import WORDS, Found, fuse, spread
from livemind.rag.store.base import StoredPassage

DENSE = [(1, 0.9), (2, 0.5), (3, 0.1)]
SPARSE = [(4, 0.6), (3, 0.2)]
BOTH = {"dense": DENSE, "sparse": SPARSE}


def keys(
    lists: dict[str, list[tuple[int, float]]],
    min_score: float = 0.0,
    enough_words: float | None = None,
) -> list[int | str]:
    return [one.key for one in fuse(lists, "hybrid", min_score, enough_words)]


def found(document: str, score: float) -> Found:
    return Found(StoredPassage(f"{document}{score}", document, "s", "t", "h", 1, {}), score)


def test_fuse_a_cosine_and_the_share_of_the_words_are_added() -> None:
    fused = fuse(BOTH, "hybrid", 0.0)
    assert [one.key for one in fused] == [1, 2, 4, 3]
    assert [one.score for one in fused] == pytest.approx(
        [0.9, 0.5, 0.1 + 0.6 * WORDS, 0.1 + 0.2 * WORDS]
    )
    assert (fused[2].dense, fused[2].sparse) == (None, 0.6)


def test_fuse_a_word_by_chance_does_not_overtake_and_a_name_does() -> None:
    near = [(1, 0.50), (2, 0.45), (3, 0.40)]
    assert keys({"dense": near, "sparse": [(3, 0.1)]}) == [1, 2, 3]
    assert keys({"dense": near, "sparse": [(3, 0.8)]}) == [3, 1, 2]


@pytest.mark.parametrize(
    ("min_score", "enough_words", "left"),
    [
        (-1.0, None, [1, 2, 4, 3]),
        (0.3, None, [1, 2]),
        (0.3, 0.4, [1, 2, 4]),
        (0.3, 0.7, [1, 2]),
    ],
)
def test_fuse_minimum_leaves_out_what_lies_below_it_unless_the_words_are_enough(
    min_score: float, enough_words: float | None, left: list[int | str]
) -> None:
    assert keys(BOTH, min_score, enough_words) == left


def test_fuse_dense_search_is_held_to_the_minimum_whatever_the_words() -> None:
    assert [one.key for one in fuse({"dense": DENSE}, "dense", 0.3, 0.0)] == [1, 2]


def test_fuse_words_alone_have_no_cosine_to_be_held_against_a_minimum() -> None:
    assert keys({"sparse": SPARSE}, 0.3) == [4, 3]


def test_fuse_one_mode_keeps_its_own_scores() -> None:
    assert [one.score for one in fuse({"dense": DENSE}, "dense", 0.2)] == [0.9, 0.5]


def test_spread_further_passages_of_a_document_make_room_for_others() -> None:
    ranked = [found("a", 1.0), found("a", 0.95), found("a", 0.94), found("b", 0.9)]
    shown = spread(ranked)
    assert [one.passage.document_id for one in shown] == ["a", "b", "a", "a"]
    assert [one.score for one in shown] == pytest.approx([1.0, 0.9, 0.855, 0.7614])


def test_spread_much_better_passages_of_a_document_stay_together() -> None:
    ranked = [found("a", 1.0), found("a", 0.9), found("b", 0.5)]
    assert [one.passage.document_id for one in spread(ranked)] == ["a", "a", "b"]


def test_spread_passages_below_zero_are_not_raised() -> None:
    ranked = [found("a", -0.1), found("a", -0.2), found("b", -0.3)]
    assert [one.score for one in spread(ranked)] == [-0.1, -0.2, -0.3]
