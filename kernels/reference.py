"""NumPy implementations of every kernel: the meaning of the native ones, and their stand-in.

Owns the checks' wording: a native kernel refuses the same input with the same message.
"""

from __future__ import annotations

import operator
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


def cosine_top_k(queries: FloatArray, matrix: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
    """Return the k rows of ``matrix`` most similar to each query, best first.

    The similarity is the dot product, which is the cosine when rows are unit vectors (not checked).

    Args:
        queries: float32 (q, d), unit rows, finite, d >= 1. A non-contiguous array is copied.
        matrix: float32 (n, d), unit rows, finite. A non-contiguous array is copied.
        k: 1 <= k <= n.

    Returns:
        Row indices int64 (q, k) and similarities float32 (q, k). Ties: lower index first.

    Raises:
        TypeError: an argument is not a float32 array, or k is not an integer.
        ValueError: wrong ndim, d differs or is 0, k out of range, or a similarity is not finite
            (NaN or infinity in either argument; the query and the row are named).

    O(q n d). Reference of the native kernel, which may differ by 4 d eps in each similarity and
    therefore in the order of rows closer to each other than that.
    """
    _check_matrix("queries", queries)
    _check_matrix("matrix", matrix)
    n, dim = matrix.shape
    if queries.shape[1] != dim:
        raise ValueError(f"queries have {queries.shape[1]} dimensions, matrix has {dim}")
    k = _check_k(k, n)
    indices = np.empty((queries.shape[0], k), np.int64)
    values = np.empty((queries.shape[0], k), np.float32)
    for position, query in enumerate(queries):
        with np.errstate(invalid="ignore", over="ignore"):
            scores = matrix @ query
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise ValueError(f"similarity of query {position} and matrix row {row} is not finite")
        indices[position] = best = _best(scores, k)
        values[position] = scores[best]
    return indices, values


def pairwise_cosine(rows: FloatArray) -> FloatArray:
    """Return the cosine of every row with every row.

    Args:
        rows: float32 (n, d), finite, any length, d >= 1. A non-contiguous array is copied.

    Returns:
        float32 (n, n), symmetric, within [-1, 1]; a zero row has cosine 0 with everything.

    Raises:
        TypeError: not a float32 array.
        ValueError: wrong ndim, d is 0, or a row is not finite (the row is named).

    O(n^2 d), computed in float64.
    """
    _check_matrix("rows", rows)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise ValueError(f"rows row {int(np.flatnonzero(~finite)[0])} is not finite")
    wide = rows.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    wide /= np.where(norms > 0.0, norms, 1.0)[:, None]
    cosines = np.clip(wide @ wide.T, -1.0, 1.0)
    return cosines.astype(np.float32)


def _best(scores: FloatArray, k: int) -> IntArray:
    # A partition alone would choose at random among rows that tie with the k-th one.
    threshold = np.partition(scores, scores.size - k)[scores.size - k]
    candidates = np.flatnonzero(scores >= threshold)
    order = np.argsort(-scores[candidates], kind="stable")[:k]
    return candidates[order].astype(np.int64, copy=False)


def _check_matrix(name: str, value: object) -> None:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be a float32 array, got {type(value).__name__}")
    if value.dtype != np.float32 or not value.dtype.isnative:
        raise TypeError(f"{name} must be float32, got {value.dtype}")
    if value.ndim != 2:
        raise ValueError(f"{name} must have 2 dimensions, got {value.ndim}")
    if value.shape[1] == 0:
        raise ValueError(f"{name} must have rows of at least 1 element, got 0")


def _check_k(k: object, n: int) -> int:
    if isinstance(k, bool) or not isinstance(k, SupportsIndex):
        raise TypeError(f"k must be an integer, got {type(k).__name__}")
    if not 1 <= operator.index(k) <= n:
        raise ValueError(f"k must be between 1 and the {n} rows of matrix, got {k}")
    return operator.index(k)
