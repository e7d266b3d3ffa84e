"""Two rankings made one."""

from __future__ import annotations

import pytest

from livemind.rag.search.fusion import Found, fuse, spread
from livemind.rag.store.base import StoredPassage

DENSE = [(1, 0.9), (2, 0.5), (3, 0.1)]
SPARSE = [(4, 7.0), (3, 5.0)]


def keys(lists: dict[str, list[tuple[int, float]]], min_score: float = 0.0) -> list[int | str]:
    return [one.key for one in fuse(lists, "hybrid", min_score)]


def found(document: str, score: float) -> Found:
    return Found(StoredPassage(f"{document}{score}", document, "s", "t", "h", 1, {}), score)


def test_fuse_both_rankings_count_and_the_vectors_twice() -> None:
    fused = fuse({"dense": DENSE, "sparse": SPARSE}, "hybrid", 0.0)
    assert [one.key for one in fused] == [3, 1, 2, 4]
    assert fused[0].score == pytest.approx(2 / 63 + 1 / 62)
    assert (fused[0].dense, fused[0].sparse) == (0.1, 5.0)


@pytest.mark.parametrize(("min_score", "left"), [(-1.0, [3, 1, 2, 4]), (0.3, [1, 2])])
def test_fuse_minimum_leaves_out_what_lies_below_it_or_has_no_cosine(
    min_score: float, left: list[int | str]
) -> None:
    assert keys({"dense": DENSE, "sparse": SPARSE}, min_score) == left


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
