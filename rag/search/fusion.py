"""From two rankings to one. Pure.

A passage is worth its cosine and, by a fixed weight, the share of the question's words that it
holds: a convex combination of both scores after Bruch, Gai and Ingber (arXiv:2210.11934), which
unlike a fusion by ranks tells a rare word from one that is there by chance. The weight, and what a
further passage of the same document counts, were chosen on the questions of ``livemind bench
retrieval`` and ``bench languages``, all of them seen (docs/retrieval.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from ..store.base import Key, Scored, StoredPassage

Mode = Literal["dense", "sparse", "hybrid"]

WORDS = 0.25
"""Cosine that all words of a question are worth together."""
ENOUGH_WORDS = 0.4
"""Share of a question's words that makes up for a low cosine, as that of a name or a number."""
SAME_DOCUMENT = 0.9


class Fused(NamedTuple):
    """A candidate with its scores; ``score`` is the one that orders it."""

    key: Key
    score: float
    dense: float | None
    sparse: float | None


@dataclass(frozen=True, slots=True)
class Found:
    """A passage with its place in each ranking; ``score`` is the one that ordered it."""

    passage: StoredPassage
    score: float
    dense: float | None = None
    sparse: float | None = None
    rerank: float | None = None


def fuse(
    lists: Mapping[str, Sequence[Scored]],
    mode: Mode,
    min_score: float,
    enough_words: float | None = None,
) -> list[Fused]:
    """Return the candidates, best first.

    Args:
        lists: of ``dense`` (cosines) and ``sparse`` (shares) those that there are, best
            first. A passage without a cosine is taken to be as near as the last one that has one.
        mode: other than hybrid, the scores are those of the one list.
        min_score: lowest cosine, if there is a dense list; a passage without a cosine reaches none
            above 0.
        enough_words: share of the words from which on a passage of a hybrid search needs no cosine;
            None = it always does.
    """
    dense, sparse = dict(lists.get("dense", ())), dict(lists.get("sparse", ()))
    scores = dense or sparse
    if mode == "hybrid" and "dense" in lists:
        farthest = min(dense.values(), default=0.0)
        scores = {
            key: dense.get(key, farthest) + WORDS * min(1.0, sparse.get(key, 0.0))
            for key in (*dense, *(key for key in sparse if key not in dense))
        }
    elif mode == "hybrid":
        scores = sparse
    spares = 2.0 if enough_words is None or mode != "hybrid" else enough_words

    def counts(key: Key) -> bool:
        if "dense" not in lists or sparse.get(key, 0.0) >= spares:
            return True
        return dense[key] >= min_score if key in dense else min_score <= 0.0

    fused = [
        Fused(key, score, dense.get(key), sparse.get(key))
        for key, score in scores.items()
        if counts(key)
    ]
    return sorted(fused, key=lambda f: (-f.score, str(f.key)))


def spread(found: Sequence[Found]) -> tuple[Found, ...]:
    """Return the passages with every further one of a document counting less, best first."""
    before: dict[str, int] = {}
    lowered = []
    for one in found:
        place = before.get(one.passage.document_id, 0)
        before[one.passage.document_id] = place + 1
        part = SAME_DOCUMENT**place if one.score > 0.0 else 1.0
        lowered.append(replace(one, score=one.score * part))
    return tuple(sorted(lowered, key=lambda one: -one.score))
