"""Similarity of embeddings in NumPy; ``reference`` says what holds for all kernels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..arrays import (
    F32,
    AnyArray,
    Array,
    FloatArray,
    IntArray,
    integer,
    read,
    require_columns,
    require_shape,
    to_float32,
)

_ROWS = ("float32", "bfloat16", "float16", "int8")
_BLOCK = 65536  # rows of a narrow matrix that are widened at once


def cosine_top_k(
    queries: Array, matrix: Array, k: int, scales: Array | None = None
) -> tuple[IntArray, FloatArray]:
    """Return the k rows of ``matrix`` most similar to each query, best first.

    The similarity is the dot product, which is the cosine when rows are unit vectors (not checked).

    Args:
        queries: float32 (q, d), unit rows, finite, d >= 1.
        matrix: (n, d), unit rows, finite: float32, bfloat16, float16, or int8 as
            ``quantize_rows`` makes it.
        k: 1 <= k <= n.
        scales: float32 (n,), of an int8 matrix only.

    Returns:
        Row indices int64 (q, k) and similarities float32 (q, k). Ties: lower index first.

    Raises:
        TypeError: an argument has another type, or k is not an integer.
        ValueError: wrong ndim, d differs or is 0, k out of range, scales missing or superfluous,
            or a similarity is not finite (the query and the row are named).

    O(q n d); reads the matrix once. Products and sums are float32: the compiled kernel may differ
    by 4 d eps in each similarity and therefore in the order of rows closer than that. An int8
    matrix is multiplied with the query rounded to int8 as well: exact integers, so that each
    similarity is within about 0.01 of that of the unrounded unit vectors (d = 384).
    """
    wanted = read("queries", queries, F32, 2).floats()
    rows = read("matrix", matrix, _ROWS, 2)
    require_columns("queries", wanted)
    require_columns("matrix", rows.array)
    n, dim = rows.array.shape
    if wanted.shape[1] != dim:
        raise ValueError(f"queries have {wanted.shape[1]} dimensions, matrix has {dim}")
    k = _check_k(k, n)
    factors: FloatArray | None = None
    if rows.kind == "int8":
        if scales is None:
            raise ValueError("scales must be given for an int8 matrix")
        if dim > 100_000:
            raise ValueError(f"matrix of int8 must have at most 100000 dimensions, got {dim}")
        factors = read("scales", scales, F32, 1).floats()
        require_shape("scales", factors, (n,))
    elif scales is not None:
        raise ValueError("scales belong to an int8 matrix only")
    indices = np.empty((wanted.shape[0], k), np.int64)
    values = np.empty((wanted.shape[0], k), np.float32)
    for position, query in enumerate(wanted):
        with np.errstate(invalid="ignore", over="ignore"):
            if factors is None:
                scores = _products(rows.array, rows.kind, query)
            else:
                codes, scale = quantize_rows(query[None])
                whole = rows.array.astype(np.int32) @ codes[0].astype(np.int32)
                scores = whole.astype(np.float32) * (scale[0] * factors)
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise ValueError(f"similarity of query {position} and matrix row {row} is not finite")
        indices[position] = best = _best(scores, k)
        values[position] = scores[best]
    return indices, values


def pairwise_cosine(rows: Array) -> FloatArray:
    """Return the cosine of every row with every row.

    Args:
        rows: float32 (n, d), finite, any length, d >= 1.

    Returns:
        float32 (n, n), symmetric, within [-1, 1]; a zero row has cosine 0 with everything.

    Raises:
        TypeError: not a float32 array.
        ValueError: wrong ndim, d is 0, or a row is not finite (the row is named).

    O(n^2 d), computed in float64: within 2 float32 eps.
    """
    given = read("rows", rows, F32, 2).array
    require_columns("rows", given)
    _require_finite(given)
    wide = given.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    wide /= np.where(norms > 0.0, norms, 1.0)[:, None]
    cosines = np.clip(wide @ wide.T, -1.0, 1.0)
    return cosines.astype(np.float32)


def quantize_rows(rows: Array) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Return rows as int8 and the scale of each: a quarter of the memory of float32.

    Args:
        rows: float32 (n, d), finite, d >= 1.

    Returns:
        int8 (n, d) within [-127, 127] and float32 (n,): row is about codes * scale, each element
        within half a scale (and float32 rounding); scale = largest magnitude / 127.

    Raises:
        TypeError: not a float32 array.
        ValueError: wrong ndim, d is 0, or a row is not finite (the row is named).
    """
    given = read("rows", rows, F32, 2).array
    require_columns("rows", given)
    _require_finite(given)
    largest = np.abs(given).max(axis=1, initial=0.0).astype(np.float32)
    safe = np.where(largest > 0.0, largest, np.float32(1.0))
    codes = np.rint(given / safe[:, None] * np.float32(127.0)).astype(np.int8)
    return codes, (largest / np.float32(127.0)).astype(np.float32)


def _products(rows: AnyArray, kind: str, query: FloatArray) -> FloatArray:
    if kind == "float32":
        return np.asarray(rows @ query, np.float32)
    parts = [
        to_float32(rows[start : start + _BLOCK], kind) @ query
        for start in range(0, len(rows), _BLOCK)
    ]
    return np.concatenate(parts)


def _best(scores: FloatArray, k: int) -> IntArray:
    # A partition alone would choose at random among rows that tie with the k-th one.
    threshold = np.partition(scores, scores.size - k)[scores.size - k]
    candidates = np.flatnonzero(scores >= threshold)
    order = np.argsort(-scores[candidates], kind="stable")[:k]
    return candidates[order].astype(np.int64, copy=False)


def _require_finite(rows: npt.NDArray[np.generic]) -> None:
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise ValueError(f"rows row {int(np.flatnonzero(~finite)[0])} is not finite")


def _check_k(k: object, n: int) -> int:
    whole = integer("k", k)
    if not 1 <= whole <= n:
        raise ValueError(f"k must be between 1 and the {n} rows of matrix, got {k}")
    return whole
