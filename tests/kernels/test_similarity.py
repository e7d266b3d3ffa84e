"""Both implementations of the similarity kernels against float64, on the same cases."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from livemind.kernels import reference
from livemind.kernels.arrays import from_float32, to_float32

Array = NDArray[np.float32]
EPS = float(np.finfo(np.float32).eps)


def _native() -> ModuleType | None:
    try:
        from livemind.kernels import _native
    except ImportError:
        return None
    return _native


NATIVE = _native()
BOTH = [
    pytest.param(reference, id="numpy"),
    pytest.param(
        NATIVE,
        id="native",
        marks=[pytest.mark.native, pytest.mark.skipif(NATIVE is None, reason="not compiled")],
    ),
]
both = pytest.mark.parametrize("kernels", BOTH)


def unit_rows(seed: int, n: int, dim: int) -> Array:
    rows = np.random.default_rng(seed).standard_normal((n, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32)


def one_hot(*columns: int, dim: int = 4) -> Array:
    return np.eye(dim, dtype=np.float32)[list(columns)]


@both
@pytest.mark.parametrize("dim", [1, 3, 15, 16, 17, 31, 33, 67, 384, 1000])
@pytest.mark.parametrize("n", [1, 2, 100])
def test_cosine_top_k_random_rows_match_float64(kernels: ModuleType, dim: int, n: int) -> None:
    matrix, queries = unit_rows(dim, n, dim), unit_rows(n + 7, 3, dim)
    exact = queries.astype(np.float64) @ matrix.astype(np.float64).T
    k = min(n, 5)

    indices, values = kernels.cosine_top_k(queries, matrix, k)

    assert (indices.dtype, values.dtype) == (np.int64, np.float32)
    assert indices.shape == values.shape == (3, k)
    tolerance = 4 * dim * EPS
    best = -np.sort(-exact, axis=1)[:, :k]
    np.testing.assert_allclose(values, best, rtol=0, atol=tolerance)
    np.testing.assert_allclose(np.take_along_axis(exact, indices, 1), best, rtol=0, atol=tolerance)
    assert all(len(set(row)) == k for row in indices.tolist())


@both
def test_cosine_top_k_whole_matrix_is_a_full_ranking(kernels: ModuleType) -> None:
    matrix = (np.array([[0.25], [1.0], [-1.0], [0.5]])).astype(np.float32)
    indices, values = kernels.cosine_top_k(np.ones((1, 1), np.float32), matrix, 4)
    assert indices.tolist() == [[1, 3, 0, 2]]
    assert values.tolist() == [[1.0, 0.5, 0.25, -1.0]]


@both
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_cosine_top_k_ties_prefer_the_lower_row(kernels: ModuleType, k: int) -> None:
    matrix = one_hot(1, 0, 1, 0, 0, 2)
    indices, _ = kernels.cosine_top_k(one_hot(0), matrix, k)
    assert indices.tolist() == [[1, 3, 4, 0, 2][:k]]


@both
def test_cosine_top_k_every_row_ties_keeps_the_first(kernels: ModuleType) -> None:
    indices, values = kernels.cosine_top_k(one_hot(0), one_hot(*[0] * 1000), 3)
    assert indices.tolist() == [[0, 1, 2]]
    assert values.tolist() == [[1.0, 1.0, 1.0]]


@both
def test_cosine_top_k_no_queries_returns_no_rows(kernels: ModuleType) -> None:
    indices, values = kernels.cosine_top_k(np.empty((0, 4), np.float32), one_hot(0, 1), 2)
    assert indices.shape == values.shape == (0, 2)


@both
def test_cosine_top_k_strided_and_misaligned_input_equals_contiguous(kernels: ModuleType) -> None:
    matrix, queries = unit_rows(1, 40, 33), unit_rows(2, 2, 33)
    expected = kernels.cosine_top_k(queries, matrix, 4)
    raw = np.zeros(matrix.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(matrix.tobytes(), np.uint8)
    misaligned = np.frombuffer(raw.data, np.float32, offset=1).reshape(matrix.shape)
    strided = np.repeat(matrix, 2, axis=0)[::2]
    for variant in (misaligned, strided, np.asfortranarray(matrix)):
        indices, values = kernels.cosine_top_k(queries, variant, 4)
        assert indices.tolist() == expected[0].tolist()
        np.testing.assert_allclose(values, expected[1], rtol=0, atol=4 * 33 * EPS)


@both
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize("where", ["queries", "matrix"])
def test_cosine_top_k_non_finite_similarity_is_refused_by_row(
    kernels: ModuleType, value: float, where: str
) -> None:
    queries, matrix = unit_rows(1, 2, 20), unit_rows(2, 50, 20)
    if where == "queries":
        queries[1] = value
        matrix[:] = 1.0
        place = "query 1 and matrix row 0"
    else:
        matrix[37] = value
        queries[:] = 1.0
        place = "query 0 and matrix row 37"
    with pytest.raises(ValueError, match=f"similarity of {place} is not finite"):
        kernels.cosine_top_k(queries, matrix, 1)


GOOD = one_hot(0, 1)
BAD = [
    pytest.param(GOOD.tolist(), GOOD, 1, TypeError, "queries .* got list", id="list"),
    pytest.param(None, GOOD, 1, TypeError, "queries .* got NoneType", id="none"),
    pytest.param(
        GOOD,
        GOOD.astype(np.float64),
        1,
        TypeError,
        "matrix must be float32.*, got float64",
        id="float64",
    ),
    pytest.param(GOOD, GOOD.astype(">f4"), 1, TypeError, "matrix .* got >f4", id="byte order"),
    pytest.param(GOOD[0], GOOD, 1, ValueError, "queries .* 2 dimensions, got 1", id="1-d"),
    pytest.param(GOOD, GOOD[None], 1, ValueError, "matrix .* 2 dimensions, got 3", id="3-d"),
    pytest.param(
        GOOD, one_hot(0, dim=5), 1, ValueError, "queries have 4 dimensions, matrix has 5", id="dim"
    ),
    pytest.param(GOOD[:, :0], GOOD[:, :0], 1, ValueError, "at least 1 element", id="no columns"),
    pytest.param(GOOD, GOOD, 3, ValueError, "between 1 and the 2 rows .* got 3", id="k > n"),
    pytest.param(GOOD, GOOD, 0, ValueError, "between 1 and the 2 rows .* got 0", id="k = 0"),
    pytest.param(GOOD, GOOD, -1, ValueError, "between 1 and the 2 rows .* got -1", id="k < 0"),
    pytest.param(GOOD, GOOD, 2**80, ValueError, f"got {2**80}", id="huge k"),
    pytest.param(GOOD, GOOD[:0], 1, ValueError, "the 0 rows of matrix, got 1", id="no rows"),
    pytest.param(GOOD, GOOD, 1.0, TypeError, "k must be an integer, got float", id="float k"),
    pytest.param(GOOD, GOOD, True, TypeError, "k must be an integer, got bool", id="bool k"),
    pytest.param(GOOD, GOOD, "1", TypeError, "k must be an integer, got str", id="str k"),
]


@both
@pytest.mark.parametrize(("queries", "matrix", "k", "error", "message"), BAD)
def test_cosine_top_k_bad_argument_is_refused_with_numbers(
    kernels: ModuleType,
    queries: object,
    matrix: object,
    k: object,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        kernels.cosine_top_k(queries, matrix, k)


@both
@given(data=st.data())
def test_cosine_top_k_small_integers_equal_the_sorted_definition(
    kernels: ModuleType, data: st.DataObject
) -> None:
    """Products of small integers are exact, so indices must match the definition, ties and all."""
    n, dim = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    k = data.draw(st.integers(1, n))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    matrix = rng.integers(-2, 3, (n, dim)).astype(np.float32)
    query = rng.integers(-2, 3, (1, dim)).astype(np.float32)
    scores = (matrix @ query[0]).tolist()

    indices, values = kernels.cosine_top_k(query, matrix, k)

    expected = sorted(range(n), key=lambda row: (-scores[row], row))[:k]
    assert indices[0].tolist() == expected
    assert values[0].tolist() == [scores[row] for row in expected]


@both
@pytest.mark.parametrize("dim", [1, 15, 16, 17, 384])
def test_pairwise_cosine_random_rows_match_float64(kernels: ModuleType, dim: int) -> None:
    rows = np.random.default_rng(dim).standard_normal((7, dim)).astype(np.float32)
    rows *= np.float32(10.0) ** np.arange(-3, 4, dtype=np.float32)[:, None]
    wide = rows.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)

    cosines = kernels.pairwise_cosine(rows)

    assert cosines.dtype == np.float32
    np.testing.assert_allclose(cosines, wide @ wide.T, rtol=0, atol=2 * EPS)
    assert (cosines == cosines.T).all()


@both
def test_pairwise_cosine_huge_tiny_and_zero_rows_stay_in_range(kernels: ModuleType) -> None:
    rows = np.array([[3e38, 3e38], [1e-40, 1e-40], [0.0, 0.0], [-3e38, -3e38]], np.float32)
    expected = [[1, 1, 0, -1], [1, 1, 0, -1], [0, 0, 0, 0], [-1, -1, 0, 1]]
    np.testing.assert_allclose(kernels.pairwise_cosine(rows), expected, rtol=0, atol=EPS)


@both
def test_pairwise_cosine_no_rows_returns_an_empty_matrix(kernels: ModuleType) -> None:
    assert kernels.pairwise_cosine(np.empty((0, 4), np.float32)).shape == (0, 0)


@both
@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        pytest.param([[1.0]], TypeError, "rows .* got list", id="list"),
        pytest.param(GOOD.astype(np.float16), TypeError, "rows .* got float16", id="float16"),
        pytest.param(GOOD[0], ValueError, "rows .* 2 dimensions, got 1", id="1-d"),
        pytest.param(GOOD[:, :0], ValueError, "at least 1 element, got 0", id="no columns"),
        pytest.param(
            np.array([[1.0], [math.nan]], np.float32), ValueError, "row 1 is not", id="nan"
        ),
        pytest.param(
            np.array([[1.0], [1.0], [math.inf]], np.float32), ValueError, "row 2 is not", id="inf"
        ),
    ],
)
def test_pairwise_cosine_bad_argument_is_refused(
    kernels: ModuleType, rows: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        kernels.pairwise_cosine(rows)


@pytest.mark.parametrize("dim", [1, 7, 8, 31, 32, 33, 64, 384])
@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_cosine_top_k_narrow_rows_match_float64_of_what_is_stored(
    tier: ModuleType, kind: str, dim: int
) -> None:
    stored = from_float32(unit_rows(dim, 100, dim), kind)
    queries = unit_rows(3, 2, dim)
    exact = queries.astype(np.float64) @ to_float32(stored, kind).astype(np.float64).T
    indices, values = tier.cosine_top_k(queries, stored, 5)
    best = -np.sort(-exact, axis=1)[:, :5]
    np.testing.assert_allclose(values, best, rtol=0, atol=4 * dim * EPS)
    np.testing.assert_allclose(np.take_along_axis(exact, indices, 1), best, atol=4 * dim * EPS)


@pytest.mark.parametrize("dim", [1, 15, 64, 65, 384])
def test_cosine_top_k_int8_rows_are_near_the_unrounded(tier: ModuleType, dim: int) -> None:
    matrix, queries = unit_rows(dim, 200, dim), unit_rows(9, 3, dim)
    codes, scales = tier.quantize_rows(matrix)
    assert np.abs(codes * scales[:, None] - matrix).max() <= scales.max() * 0.5001
    exact = queries.astype(np.float64) @ matrix.astype(np.float64).T
    indices, values = tier.cosine_top_k(queries, codes, 10, scales)
    np.testing.assert_allclose(np.take_along_axis(exact, indices, 1), values, atol=0.02)
    assert (np.diff(values, axis=1) <= 0).all()


def test_quantize_rows_zero_and_extreme_rows_survive(tier: ModuleType) -> None:
    rows = np.array([[0.0, 0.0], [3e38, -3e38], [1e-40, -5e-41]], np.float32)
    codes, scales = tier.quantize_rows(rows)
    assert codes[:2].tolist() == [[0, 0], [127, -127]]
    assert np.isfinite(scales).all()
    with pytest.raises(ValueError, match="rows row 1 is not finite"):
        tier.quantize_rows(np.array([[1.0], [math.inf]], np.float32))


@pytest.mark.parametrize("n", [1, 3, 4, 5, 63, 66, 131])
@pytest.mark.parametrize("dim", [1, 63, 64, 100, 384])
def test_cosine_top_k_int8_products_are_exact_for_any_number_of_rows(
    tier: ModuleType, n: int, dim: int
) -> None:
    rng = np.random.default_rng(n * dim)
    codes = rng.integers(-128, 128, (n, dim), np.int8)
    query = rng.integers(-127, 128, dim)
    query[0] = 127
    exact = codes.astype(np.int64) @ query
    indices, values = tier.cosine_top_k(
        (query[None] / 127).astype(np.float32), codes, n, np.ones(n, np.float32)
    )
    assert indices[0].tolist() == sorted(range(n), key=lambda row: (-exact[row], row))
    np.testing.assert_allclose(values[0], exact[indices[0]] / 127, rtol=4 * EPS)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_cosine_top_k_equal_rows_get_equal_similarities_wherever_they_lie(
    tier: ModuleType, kind: str
) -> None:
    """Also in the last rows, which are fewer than are added up together, and with gaps between."""
    row = from_float32(unit_rows(5, 1, 100), kind)
    matrix = np.repeat(np.repeat(row, 7, axis=0), 2, axis=0)[::2]
    indices, values = tier.cosine_top_k(unit_rows(6, 1, 100), matrix, 7)
    if tier is not reference:  # its BLAS promises no such thing
        assert indices.tolist() == [[0, 1, 2, 3, 4, 5, 6]]
        assert len(set(values[0].tolist())) == 1


@both
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_cosine_top_k_non_finite_row_after_many_is_refused(
    kernels: ModuleType, value: float
) -> None:
    matrix = unit_rows(2, 300, 20)
    matrix[250] = value
    with pytest.raises(ValueError, match="matrix row 250 is not finite"):
        kernels.cosine_top_k(np.ones((1, 20), np.float32), matrix, 1)
