"""Exact and approximate search: same answers, same refusals."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from livemind.rag.base import FloatArray
from livemind.rag.index import VectorIndex


def unit_rows(seed: int, n: int, dim: int = 48) -> FloatArray:
    rows = np.random.default_rng(seed).standard_normal((n, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32)


VECTORS = unit_rows(1, 1500)


@pytest.fixture(params=["exact", "hnsw"])
def index(request: pytest.FixtureRequest) -> VectorIndex:
    if request.param == "hnsw":
        pytest.importorskip("hnswlib")
    index = VectorIndex(VECTORS, hnsw_from=1 if request.param == "hnsw" else 10_000)
    assert index.method == request.param
    return index


def test_index_query_equal_to_a_row_finds_it_first(index: VectorIndex) -> None:
    for row in (0, 700, 1499):
        rows, cosines = index.search(VECTORS[row], 3)
        assert rows[0] == row
        assert cosines[0] == pytest.approx(1.0, abs=1e-5)
        assert (np.diff(cosines) <= 0).all()
        assert rows.dtype == np.int64
        assert cosines.dtype == np.float32


def test_index_recall_at_10_is_nearly_that_of_exact_search(index: VectorIndex) -> None:
    queries = unit_rows(2, 50)
    exact = np.argsort(-(queries @ VECTORS.T), axis=1)[:, :10]
    found = [set(index.search(query, 10)[0].tolist()) for query in queries]
    hits = sum(len(found[i] & set(exact[i].tolist())) for i in range(50))
    assert hits / 500 >= 0.97


def test_index_k_beyond_its_rows_returns_every_row(index: VectorIndex) -> None:
    small = VectorIndex(VECTORS[:4], hnsw_from=1 if index.method == "hnsw" else 99)
    rows, cosines = small.search(VECTORS[2], 50)
    assert sorted(rows.tolist()) == [0, 1, 2, 3]
    assert cosines.shape == (4,)


@pytest.mark.parametrize(
    ("query", "k", "message"),
    [
        pytest.param(VECTORS[0, :40], 1, r"shape \(40,\), the index needs \(48,\)", id="dim"),
        pytest.param(VECTORS[:1], 1, r"shape \(1, 48\)", id="2-d"),
        pytest.param(VECTORS[0], 0, "at least 1, got 0", id="k = 0"),
        pytest.param(np.full(48, math.nan, np.float32), 1, "not finite", id="nan"),
    ],
)
def test_index_bad_query_is_refused(
    index: VectorIndex, query: FloatArray, k: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        index.search(query, k)


def test_index_float64_query_is_refused(index: VectorIndex) -> None:
    with pytest.raises(TypeError, match="float32, got float64"):
        index.search(VECTORS[0].astype(np.float64), 1)


async def test_index_search_async_equals_search(index: VectorIndex) -> None:
    rows, cosines = await index.search_async(VECTORS[5], 4)
    expected = index.search(VECTORS[5], 4)
    assert rows.tolist() == expected[0].tolist()
    assert cosines.tolist() == expected[1].tolist()


def test_index_empty_collection_finds_nothing() -> None:
    index = VectorIndex(VECTORS[:0], hnsw_from=0)
    rows, cosines = index.search(VECTORS[0], 3)
    assert (len(index), index.dim, index.method) == (0, 48, "exact")
    assert (rows.size, cosines.size) == (0, 0)


def test_index_later_change_of_the_given_array_changes_nothing() -> None:
    vectors = VECTORS[:10].copy()
    index = VectorIndex(vectors)
    vectors[:] = vectors[0]
    assert index.search(VECTORS[7], 1)[0].tolist() == [7]


def test_index_without_hnswlib_searches_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    assert VectorIndex(VECTORS[:10], hnsw_from=1).method == "exact"


@pytest.mark.parametrize(
    ("vectors", "error", "message"),
    [
        pytest.param(VECTORS.astype(np.float64), TypeError, "float32, got float64", id="dtype"),
        pytest.param(VECTORS[0], ValueError, r"got \(48,\)", id="1-d"),
        pytest.param(VECTORS[:, :0], ValueError, r"got \(1500, 0\)", id="no columns"),
        pytest.param(2 * VECTORS[:3], ValueError, "row 0 has length 2", id="not unit"),
        pytest.param(
            np.vstack([VECTORS[:2], np.full((1, 48), math.nan, np.float32)]),
            ValueError,
            "row 2 has length nan",
            id="nan",
        ),
    ],
)
def test_index_bad_vectors_are_refused(
    vectors: FloatArray, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        VectorIndex(vectors)
