"""Kernels over logits, on every tier, against float64 and against their definitions."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from livemind.kernels import reference

Array = NDArray[np.float32]
LENGTHS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 67, 1000, 2049, 5000]
EPS = float(np.finfo(np.float32).eps)


def logits(seed: int, rows: int, n: int, spread: float = 3.0) -> Array:
    return (np.random.default_rng(seed).standard_normal((rows, n)) * spread).astype(np.float32)


def exact_log_softmax(x: Array) -> NDArray[np.float64]:
    wide = x.astype(np.float64)
    wide = wide - wide.max(axis=-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True)))


@pytest.mark.parametrize("n", LENGTHS)
def test_softmax_any_length_matches_float64(tier: ModuleType, n: int) -> None:
    x = logits(n, 2, n)
    x[1] *= 20  # most terms underflow
    exact = exact_log_softmax(x)
    away = (x.max(axis=1, keepdims=True) - x).astype(np.float64)
    error = np.abs(tier.softmax(x) - np.exp(exact))
    assert (error <= (8 + away) * EPS * np.exp(exact) + 1e-37).all()
    tolerance = 1e-6 + 2 * EPS * float(np.ptp(x))
    np.testing.assert_allclose(tier.log_softmax(x), exact, rtol=0, atol=tolerance)


def test_softmax_minus_infinity_and_subnormals_are_ordinary(tier: ModuleType) -> None:
    x = np.array([[-np.inf, 1e-42, -1e-42, 0.0, -np.inf]], np.float32)
    np.testing.assert_allclose(tier.softmax(x), [[0, 1 / 3, 1 / 3, 1 / 3, 0]], rtol=4 * EPS)


@pytest.mark.parametrize("n", [1, 5, 16, 40])
@pytest.mark.parametrize("bad", [math.nan, math.inf, "-inf everywhere"])
def test_softmax_row_without_distribution_is_nan(
    tier: ModuleType, n: int, bad: float | str
) -> None:
    x = np.zeros((3, n), np.float32)
    x[1] = -np.inf
    x[1, n // 2] = -np.inf if isinstance(bad, str) else bad
    for kernel in (tier.softmax, tier.log_softmax):
        result = kernel(x)
        assert np.isnan(result[1]).all()
        assert np.isfinite(result[[0, 2]]).all()


def test_softmax_in_place_and_strided_equal_fresh(tier: ModuleType) -> None:
    x = logits(1, 3, 37)
    expected = tier.softmax(x)
    wide = np.full((3, 50), np.nan, np.float32)
    wide[:, 5:42] = x
    view = wide[:, 5:42]
    assert tier.softmax(view, out=view) is view
    np.testing.assert_array_equal(view, expected)
    assert np.isnan(wide[:, :5]).all()
    assert np.isnan(wide[:, 42:]).all()
    np.testing.assert_array_equal(tier.softmax(np.asfortranarray(x)), expected)
    np.testing.assert_array_equal(tier.softmax(x[1]), expected[1])


CUTS: list[dict[str, Any]] = [
    {"top_p": 0.9},
    {"top_p": 0.0},
    {"top_p": 0.999},
    {"top_k": 1},
    {"top_k": 40},
    {"min_p": 0.02},
    {"top_k": 50, "top_p": 0.8},
    {"top_k": 500, "top_p": 0.95, "min_p": 0.001},
]


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("n", [1, 3, 16, 63, 65, 1000, 20_000])
@pytest.mark.parametrize("spread", [0.01, 1.0, 6.0])
def test_filter_random_logits_keep_what_the_definition_keeps(
    tier: ModuleType, n: int, spread: float, cut: dict[str, Any]
) -> None:
    x = logits(n, 2, n, spread)
    found, expected = x.copy(), x.copy()

    kept = tier.filter_logits(found, **cut)

    reference.filter_logits(expected, **cut)
    unlike = np.isinf(found) != np.isinf(expected)
    assert unlike.sum() <= (2 if "top_p" in cut else 0)  # at most one token per row, at the cut
    survivors = ~np.isinf(found)
    assert kept.tolist() == survivors.sum(axis=1).tolist()
    np.testing.assert_array_equal(found[survivors], x[survivors])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("n", [50, 4096])
def test_filter_top_p_is_the_smallest_set_that_reaches_p(
    tier: ModuleType, n: int, p: float
) -> None:
    """Without the reference: its mass reaches p, and no longer does without its smallest token."""
    x = logits(n, 4, n)
    probabilities = np.exp(exact_log_softmax(x))
    tier.filter_logits(x, top_p=p)
    for row, weights in zip(x, probabilities, strict=True):
        kept = weights[~np.isinf(row)]
        assert kept.sum() >= p - 1e-6
        assert kept.sum() - kept.min() < p + 1e-6
        assert kept.min() >= weights[np.isinf(row)].max()


def test_filter_ties_at_the_cut_keep_the_lowest_ids_for_p_and_all_for_k(tier: ModuleType) -> None:
    flat = np.zeros((1, 1000), np.float32)
    assert tier.filter_logits(flat, top_p=0.5).tolist() == [500]
    assert np.isfinite(flat[0, :500]).all()
    tied = np.repeat(np.array([[3.0, 1.0, 2.0]], np.float32), 40, axis=1)
    assert tier.filter_logits(tied, top_k=41).tolist() == [80]


def test_filter_limits_differ_by_row_and_pass_through_when_off(tier: ModuleType) -> None:
    x = logits(3, 3, 500)
    before = x.copy()
    kept = tier.filter_logits(
        x, top_k=np.array([1, 500, 10]), top_p=np.array([1.0, 1.0, 1.0], np.float32)
    )
    assert kept.tolist() == [1, 500, 10]
    np.testing.assert_array_equal(x[1], before[1])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_filter_row_without_distribution_is_left_alone(tier: ModuleType, bad: float) -> None:
    x = logits(4, 3, 300)
    x[1] = -np.inf if bad == -math.inf else x[1]
    x[1, 123] = bad
    before = x.copy()
    kept = tier.filter_logits(x, top_p=0.5, top_k=20)
    assert kept[1] == -1
    assert (kept[[0, 2]] > 0).all()
    np.testing.assert_array_equal(x[1], before[1])


def test_filter_masked_tokens_stay_masked(tier: ModuleType) -> None:
    x = np.full((1, 200), -np.inf, np.float32)
    x[0, [3, 77, 150]] = [1.0, 2.0, 1.5]
    assert tier.filter_logits(x.copy(), top_k=50).tolist() == [3]
    assert tier.filter_logits(x, top_p=0.7).tolist() == [2]
    assert np.flatnonzero(np.isfinite(x)).tolist() == [77, 150]


def test_penalties_repeated_tokens_follow_the_formula(tier: ModuleType) -> None:
    x = np.array([[2.0, -2.0, 1.0, 4.0, 0.5], [1.0, 1.0, 1.0, 1.0, 1.0]], np.float32)
    prompt = np.array([[0, 1, 5, -1], [5, 5, 5, 5]])
    output = np.array([[3, 3, 1, 2**40], [4, 4, 4, 5]])
    tier.apply_penalties(x, prompt, output, 2.0, np.array([0.5, 0.0], np.float32), 0.25)
    expected = [[1.0, -4.0 - 0.25 - 0.5, 1.0, 2.0 - 0.5 - 0.5, 0.5], [1, 1, 1, 1, 0.5 - 0.75]]
    np.testing.assert_allclose(x, expected, rtol=EPS)
    before = x.copy()
    tier.apply_penalties(x, prompt, output)  # all off: also no trace of the call before
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("n", LENGTHS)
def test_divergences_random_rows_match_float64(tier: ModuleType, n: int) -> None:
    p, q = logits(n, 3, n), logits(n + 1, 3, n)
    q[2] = p[2]
    log_p, log_q = exact_log_softmax(p), exact_log_softmax(q)
    a, b = np.exp(log_p), np.exp(log_q)
    log_m = np.log((a + b) / 2)
    js = ((a * (log_p - log_m)).sum(axis=1) + (b * (log_q - log_m)).sum(axis=1)) / 2
    np.testing.assert_allclose(tier.entropy(p), -(a * log_p).sum(axis=1), rtol=0, atol=1e-5)
    kl = (a * (log_p - log_q)).sum(axis=1)
    np.testing.assert_allclose(tier.kl_divergence(p, q), kl, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(tier.js_divergence(p, q), js, rtol=0, atol=1e-5)


def test_divergences_impossible_tokens_have_their_limits(tier: ModuleType) -> None:
    p = np.array([[0.0, -np.inf, 0.0], [0.0, -np.inf, -np.inf], [0.0, np.nan, 0.0]], np.float32)
    q = np.array([[0.0, 0.0, -np.inf], [-np.inf, 0.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    kl = tier.kl_divergence(p, q)
    assert kl[0] == kl[1] == math.inf
    js = tier.js_divergence(p, q)
    np.testing.assert_allclose(js[:2], [math.log(2) / 2, math.log(2)], rtol=1e-6)
    np.testing.assert_allclose(tier.entropy(p)[:2], [math.log(2), 0.0], atol=1e-6)
    assert np.isnan([kl[2], js[2], tier.entropy(p)[2]]).all()
