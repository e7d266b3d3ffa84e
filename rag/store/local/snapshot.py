"""What a search sees: immutable rows of vectors, swapped as a whole by the one writer.

Owns exact and approximate search and their merging. A snapshot has a base (with an HNSW graph when
it is large) and a tail of newer rows that is searched exactly; removed rows are masked in both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .... import kernels
from ...base import FloatArray

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

EXACT_BELOW = 20_000  # live rows; exact search of them takes 3 ms and misses nothing
NARROW_SHARE = 0.05  # a filter that keeps less is searched exactly


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows in ascending order with their vectors; ``alive`` says which are not removed."""

    rows: Rows
    vectors: FloatArray
    alive: Mask

    @classmethod
    def of(cls, rows: Rows, vectors: FloatArray) -> Segment:
        """Return a segment without removed rows."""
        return cls(rows, vectors, np.ones(len(rows), np.bool_))

    def without(self, removed: Rows) -> Segment:
        """Return the same rows with ``removed`` masked."""
        hit = self.places(removed)
        if not len(hit):
            return self
        alive = self.alive.copy()
        alive[hit] = False
        return replace(self, alive=alive)

    def places(self, rows: Rows) -> Rows:
        """Return the places of those rows that the segment has."""
        if not len(self.rows) or not len(rows):
            return np.empty(0, np.int64)
        places = np.searchsorted(self.rows, rows)
        places[places == len(self.rows)] = 0
        found: Rows = places[self.rows[places] == rows].astype(np.int64)
        return found

    def exact(self, query: FloatArray, k: int, allowed: Rows | None) -> list[tuple[int, float]]:
        """Return the k best live rows; only ``allowed`` ones if given."""
        if allowed is None:
            places, vectors, alive = None, self.vectors, self.alive
        else:
            places = self.places(allowed)
            places = places[self.alive[places]]
            vectors, alive = self.vectors[places], self.alive[places]
        if not alive.any():
            return []
        wanted, ask = min(k, int(alive.sum())), k if alive.all() else 2 * k + 8
        while True:  # removed rows among the best: ask for more
            ask = min(ask, len(vectors))
            indices, cosines = kernels.cosine_top_k(query[None, :], vectors, ask)
            live = alive[indices[0]]
            if live.sum() >= wanted:
                break
            ask *= 4
        best, scores = indices[0][live][:k], cosines[0][live][:k]
        rows = self.rows[best if places is None else places[best]]
        return list(zip(rows.tolist(), scores.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of a collection. Searches of it are thread-safe and never change it."""

    base: Segment
    tail: Segment
    graph: Any = None

    @property
    def live(self) -> int:
        """How many rows are not removed."""
        return int(self.base.alive.sum() + self.tail.alive.sum())

    @property
    def dead(self) -> int:
        """How many removed rows are still held."""
        return len(self.base.rows) + len(self.tail.rows) - self.live

    def search(self, query: FloatArray, k: int, allowed: Rows | None) -> list[tuple[int, float]]:
        """Return the k nearest live rows with their cosines, best first.

        Args:
            query: float32 (dim,), of length 1.
            k: >= 1.
            allowed: only these rows; None = all.
        """
        found = self.tail.exact(query, k, allowed)
        if self.graph is None or (
            allowed is not None and len(allowed) < max(NARROW_SHARE * self.live, EXACT_BELOW)
        ):
            found += self.base.exact(query, k, allowed)
        else:
            found += self._approximate(query, k, allowed)
        found.sort(key=lambda pair: (-pair[1], pair[0]))
        return found[:k]

    def _approximate(
        self, query: FloatArray, k: int, allowed: Rows | None
    ) -> list[tuple[int, float]]:
        """Ask the graph for more than k until enough of them are live and allowed."""
        share = 1.0 if allowed is None else len(allowed) / max(self.live, 1)
        share *= self.base.alive.sum() / len(self.base.rows)
        ask = min(max(k, int(1.2 * k / max(share, 0.01))), len(self.base.rows))
        while True:
            if ask > 2_000:
                return self.base.exact(query, k, allowed)
            try:
                labels, distances = self.graph.knn_query(query[None], ask, num_threads=1)
            except RuntimeError:  # the graph cannot reach that many: equal vectors part it
                return self.base.exact(query, k, allowed)
            rows = labels[0].astype(np.int64)
            places = np.searchsorted(self.base.rows, rows)
            keep = self.base.alive[places]
            if allowed is not None:
                keep &= np.isin(rows, allowed, assume_unique=True)
            if keep.sum() >= k or ask == len(self.base.rows):
                pairs = zip(rows[keep].tolist(), (1.0 - distances[0][keep]).tolist(), strict=True)
                return list(pairs)[:k]
            ask = min(ask * 4, len(self.base.rows))
