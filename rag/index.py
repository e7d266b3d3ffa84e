"""Nearest passages by cosine: exact for small collections, HNSW for large ones.

Owns the choice of method. An index never changes after it was built; passages are rows by number.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .. import kernels
from .base import FloatArray

IntArray = npt.NDArray[np.int64]
Method = Literal["exact", "hnsw"]

HNSW_FROM = 5_000  # rows; below, exact search takes about as long and misses nothing
OFFLOAD_FROM = 1_000_000  # matrix elements whose exact search is too long for an event loop

_HNSW_M = 16
_HNSW_EF_BUILD = 200
_HNSW_EF_SEARCH = 128


class VectorIndex:
    """An immutable set of unit vectors that answers "which rows are nearest"."""

    def __init__(self, vectors: FloatArray, *, hnsw_from: int = HNSW_FROM) -> None:
        """Build the index; blocks for about 0.3 ms a row with HNSW, not at all without.

        Args:
            vectors: float32 (n, dim), unit rows, dim >= 1. Copied.
            hnsw_from: rows from which HNSW is used, where hnswlib is installed.

        Raises:
            TypeError: not a float32 array.
            ValueError: not 2 dimensions, no columns, or a row that is not of length 1 (named).
        """
        _check(vectors)
        self._vectors = np.array(vectors, np.float32, order="C")
        self._vectors.setflags(write=False)
        self._hnsw = _build_hnsw(self._vectors) if len(vectors) >= max(hnsw_from, 1) else None

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._vectors.shape[1])

    @property
    def method(self) -> Method:
        """How it searches: ``exact`` or ``hnsw`` (approximate)."""
        return "exact" if self._hnsw is None else "hnsw"

    def search(self, query: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Return the ``min(k, len(self))`` nearest rows and their cosines, best first.

        Args:
            query: float32 (dim,), of length 1.
            k: >= 1.

        Raises:
            TypeError: the query is not float32.
            ValueError: the query has another shape or is not finite, or k < 1.

        Thread-safe; blocks. Ties: lower row first when exact.
        """
        if query.dtype != np.float32:
            raise TypeError(f"query must be float32, got {query.dtype}")
        if query.shape != (self.dim,):
            raise ValueError(f"query has shape {query.shape}, the index needs ({self.dim},)")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if not np.isfinite(query).all():
            raise ValueError("query is not finite")
        k = min(k, len(self))
        if k == 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        if self._hnsw is None:
            rows, cosines = kernels.cosine_top_k(query[None], self._vectors, k)
            return rows[0], cosines[0]
        labels, distances = self._hnsw.knn_query(query[None], k, num_threads=1)
        return labels[0].astype(np.int64), (1.0 - distances[0]).astype(np.float32)

    async def search_async(self, query: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Do ``search``, in a thread when it would hold up the event loop."""
        if self._hnsw is None and self._vectors.size < OFFLOAD_FROM:
            return self.search(query, k)
        return await asyncio.to_thread(self.search, query, k)


def _check(vectors: FloatArray) -> None:
    # hnswlib takes any shape and any value and answers nonsense, so all is checked here.
    if vectors.dtype != np.float32:
        raise TypeError(f"vectors must be float32, got {vectors.dtype}")
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise ValueError(f"vectors must be (n, dim) with dim >= 1, got {vectors.shape}")
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    wrong = np.flatnonzero(~(np.abs(lengths - 1.0) < 1e-3))
    if wrong.size:
        raise ValueError(f"vectors row {wrong[0]} has length {lengths[wrong[0]]}, need 1")


def _build_hnsw(vectors: FloatArray) -> Any:
    try:
        import hnswlib
    except ImportError:
        return None
    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(len(vectors), M=_HNSW_M, ef_construction=_HNSW_EF_BUILD, random_seed=1)
    index.add_items(vectors, num_threads=1)  # one thread: the same vectors give the same graph
    index.set_ef(_HNSW_EF_SEARCH)
    return index
