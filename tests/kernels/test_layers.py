"""Kernels inside a transformer, on every tier and storage type, against float64."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from livemind import kernels
from livemind.kernels.arrays import from_float32, to_float32
from livemind.kernels.vllm_plugin.tiles import allow_tiles

Wide = NDArray[np.float64]
LENGTHS = [1, 3, 4, 5, 8, 15, 16, 17, 33, 64, 127, 1000]
UNIT = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
kinds = pytest.mark.parametrize("kind", UNIT)


def stored(seed: int, shape: tuple[int, ...], kind: str) -> tuple[NDArray[Any], Wide]:
    """Random numbers as they are stored, and what exactly was stored."""
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    raw = from_float32(values, kind)
    return raw, to_float32(raw, kind).astype(np.float64)


def read(raw: NDArray[Any], kind: str) -> Wide:
    return to_float32(raw, kind).astype(np.float64)


@kinds
@pytest.mark.parametrize("n", LENGTHS)
def test_rms_norm_any_length_matches_float64(tier: ModuleType, kind: str, n: int) -> None:
    (raw, x), (raw_w, w) = stored(n, (3, n), kind), stored(n + 1, (n,), kind)
    exact = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5) * w
    found = tier.rms_norm(raw, raw_w, 1e-5)
    assert found.dtype == raw.dtype
    np.testing.assert_allclose(
        read(found, kind), exact, rtol=UNIT[kind] + (2 + n / 8) * 2.0**-23, atol=1e-7
    )


@kinds
@pytest.mark.parametrize("n", LENGTHS)
def test_fused_add_rms_norm_changes_both_as_two_steps_would(
    tier: ModuleType, kind: str, n: int
) -> None:
    (raw, x), (raw_r, r) = stored(n, (3, n), kind), stored(n + 1, (3, n), kind)
    raw_w, w = stored(n + 2, (n,), kind)
    total = read(from_float32((x + r).astype(np.float32), kind), kind)
    tier.fused_add_rms_norm(raw, raw_r, raw_w, 1e-6)
    np.testing.assert_array_equal(read(raw_r, kind), total)
    both = x + r  # the norm is of the sum before it is rounded
    exact = both / np.sqrt((both**2).mean(axis=1, keepdims=True) + 1e-6) * w
    np.testing.assert_allclose(
        read(raw, kind), exact, rtol=UNIT[kind] + (2 + n / 8) * 2.0**-23, atol=1e-7
    )


def test_rms_norm_bfloat16_row_is_rounded_before_it_meets_the_weight(tier: ModuleType) -> None:
    """As transformers and vLLM do: the other order differs in a tenth of these elements."""
    (raw, x), (raw_w, w) = stored(1, (4, 512), "bfloat16"), stored(2, (512,), "bfloat16")
    row = (x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-6)).astype(np.float32)
    rounded = to_float32(from_float32(row, "bfloat16"), "bfloat16") * w
    expected = from_float32(rounded.astype(np.float32), "bfloat16")
    assert np.mean(tier.rms_norm(raw, raw_w, 1e-6) != expected) < 0.002


@kinds
@pytest.mark.parametrize("n", LENGTHS)
def test_swiglu_any_length_matches_float64(tier: ModuleType, kind: str, n: int) -> None:
    raw, x = stored(n, (2, 2 * n), kind)
    gate, up = x[:, :n], x[:, n:]
    exact = gate / (1 + np.exp(-gate)) * up
    found = read(tier.swiglu(raw), kind)
    np.testing.assert_allclose(found, exact, rtol=4 * UNIT[kind], atol=1e-6 * UNIT[kind])


def test_swiglu_extreme_gates_are_zero_or_the_identity(tier: ModuleType) -> None:
    x = np.array([[-1000.0, -100.0, 100.0, 1000.0, 1.0, 1.0, 1.0, 1.0]], np.float32)
    np.testing.assert_allclose(tier.swiglu(x), [[0, 0, 100, 1000]], rtol=1e-6, atol=1e-33)


@kinds
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("dim", "rotary"), [(2, 2), (10, 6), (64, 64), (80, 32), (34, 34)])
def test_rope_rotates_pairs_and_leaves_the_rest(
    tier: ModuleType, kind: str, dim: int, rotary: int, interleaved: bool
) -> None:
    raw, x = stored(dim, (3, 2, dim), kind)
    angles = np.random.default_rng(1).uniform(0, 6, (5, rotary // 2))
    table = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    positions = np.array([4, 0, 2])
    exact = x.copy()
    for token, position in enumerate(positions):
        for i in range(rotary // 2):
            a, b = (2 * i, 2 * i + 1) if interleaved else (i, rotary // 2 + i)
            turn = np.exp(1j * angles[position, i]) * (x[token, :, a] + 1j * x[token, :, b])
            exact[token, :, a], exact[token, :, b] = turn.real, turn.imag
    tier.rope(raw, positions, table, interleaved=interleaved)
    np.testing.assert_allclose(read(raw, kind), exact, rtol=UNIT[kind], atol=4 * UNIT[kind])
    np.testing.assert_array_equal(read(raw, kind)[..., rotary:], x[..., rotary:])


def test_layers_nan_and_infinity_come_out_as_nan(tier: ModuleType) -> None:
    for bad in (np.nan, np.inf):
        x = np.ones((2, 40), np.float32)
        x[1, 33] = bad
        found = tier.rms_norm(x, np.ones(40, np.float32))
        assert np.isnan(found[1, 33])
        np.testing.assert_allclose(found[0], 1.0, rtol=1e-6)
    x = np.ones((1, 80), np.float32)
    x[0, 33] = np.nan
    assert np.flatnonzero(np.isnan(tier.swiglu(x)[0])).tolist() == [33]


PACK = {4: kernels.pack_q4, 8: kernels.pack_q8}
QUANTIZE = {4: kernels.quantize_q4, 8: kernels.quantize_q8}
widths = pytest.mark.parametrize("bits", [4, 8])


def linear(tier: ModuleType, bits: int) -> Callable[..., Any]:
    found: Callable[..., Any] = {4: tier.q4_linear, 8: tier.q8_linear}[bits]
    return found


@pytest.mark.parametrize("outputs", [1, 15, 16, 17, 40])
@pytest.mark.parametrize(("inputs", "group"), [(8, 8), (48, 24), (128, 32), (256, 128)])
@pytest.mark.parametrize("rows", [1, 3, 7, 9, 33])
@widths
def test_packed_linear_equals_exact_product_of_what_was_rounded(
    tier: ModuleType, outputs: int, inputs: int, group: int, rows: int, bits: int
) -> None:
    rng = np.random.default_rng(outputs * inputs + rows)
    codes = rng.integers(0, 1 << bits, (outputs, inputs), np.uint8)
    codes[0] = (1 << bits) - 1  # the largest sums
    scales = rng.uniform(0.5, 2.0, (outputs, inputs // group)).astype(np.float32)
    zeros = rng.integers(0, 1 << bits, scales.shape).astype(np.float32)
    weight = PACK[bits](codes, scales, zeros)
    wide = codes.reshape(outputs, -1, group) - zeros[..., None].astype(np.float64)
    exact_weight = (wide * scales[..., None]).reshape(outputs, inputs)
    np.testing.assert_allclose(weight.unpack(), exact_weight, rtol=1e-6, atol=1e-4)
    allow_tiles()
    # whole numbers up to 127 in every group: rounding x to 8 bits loses nothing
    x = rng.integers(-127, 128, (rows, inputs)).astype(np.float32)
    x[:, ::group] = 127.0
    x[0] = 127.0
    bias = rng.standard_normal(outputs).astype(np.float32)
    exact = x.astype(np.float64) @ exact_weight.T + bias
    found = linear(tier, bits)(x, weight, bias)
    largest = (codes + zeros.repeat(group, axis=1)) * scales.repeat(group, axis=1)
    scale = np.abs(x).astype(np.float64) @ largest.T
    assert (np.abs(found - exact) <= 2e-6 * (scale + np.abs(exact)) + 1e-4).all()


@kinds
@widths
def test_packed_linear_random_rows_stay_within_one_percent(
    tier: ModuleType, kind: str, bits: int
) -> None:
    raw, x = stored(1, (5, 512), kind)
    weight = QUANTIZE[bits](
        np.random.default_rng(2).standard_normal((96, 512)).astype(np.float32), 128
    )
    exact = x @ weight.unpack().astype(np.float64).T
    found = read(linear(tier, bits)(raw, weight), kind)
    assert np.linalg.norm(found - exact) <= (0.01 + UNIT[kind]) * np.linalg.norm(exact)


@kinds
@pytest.mark.parametrize("rows", [2, 5, 8, 15, 35])
@widths
def test_packed_linear_row_has_the_same_bits_beside_others_as_alone(
    tier: ModuleType, kind: str, rows: int, bits: int
) -> None:
    """So a prompt has the same KV cache however it was sliced."""
    allow_tiles()  # which 16 rows are computed on, where there are such
    raw, _ = stored(4, (rows, 96), kind)
    rng = np.random.default_rng(5)
    weight = QUANTIZE[bits](rng.standard_normal((40, 96)).astype(np.float32), 32)
    together = linear(tier, bits)(raw, weight)
    for row in range(rows):
        alone = linear(tier, bits)(raw[row : row + 1], weight)
        if tier.isa() == "numpy":  # whose products add up in another order with more rows
            found, exact = read(alone, kind)[0], read(together, kind)[row]
            np.testing.assert_allclose(found, exact, rtol=UNIT[kind], atol=1e-5)
        else:
            assert bytes(alone[0].tobytes()) == bytes(together[row].tobytes())


@widths
def test_packed_linear_of_very_many_rows_gives_each_its_own(tier: ModuleType, bits: int) -> None:
    """Tiles take 512 rows at a time."""
    allow_tiles()
    rng = np.random.default_rng(6)
    x = rng.standard_normal((1050, 64)).astype(np.float32)
    weight = QUANTIZE[bits](rng.standard_normal((24, 64)).astype(np.float32), 32)
    together = linear(tier, bits)(x, weight)
    some = [0, 511, 512, 1023, 1024, 1039, 1040, 1049]
    np.testing.assert_allclose(together[some], linear(tier, bits)(x[some], weight), atol=1e-4)
    exact = x @ weight.unpack().T
    assert np.linalg.norm(together - exact) <= 0.01 * np.linalg.norm(exact)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", [1, 9])
@widths
def test_packed_linear_rows_that_are_not_finite_come_out_as_nan(
    tier: ModuleType, bad: float, rows: int, bits: int
) -> None:
    x = np.ones((rows, 64), np.float32)
    x[0, 41] = bad
    weight = QUANTIZE[bits](np.ones((20, 64), np.float32), 32)
    with np.errstate(invalid="ignore"):
        found = linear(tier, bits)(x, weight)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1:]).all()


@widths
def test_packed_linear_zero_rows_give_the_bias(tier: ModuleType, bits: int) -> None:
    weight = QUANTIZE[bits](np.ones((20, 16), np.float32), 8)
    bias = np.arange(20, dtype=np.float32)
    np.testing.assert_array_equal(
        linear(tier, bits)(np.zeros((2, 16), np.float32), weight, bias)[1], bias
    )


@widths
def test_quantize_error_is_at_most_half_a_scale(bits: int) -> None:
    weight = np.random.default_rng(3).standard_normal((33, 64)).astype(np.float32)
    weight[4] = 0.0
    packed = QUANTIZE[bits](weight, 16)
    groups = weight.reshape(33, 4, 16)
    span = np.maximum(groups.max(axis=2), 0) - np.minimum(groups.min(axis=2), 0)
    error = np.abs(packed.unpack() - weight).reshape(33, 4, 16).max(axis=2)
    assert (error <= span / ((1 << bits) - 1) * 0.505 + 1e-6).all()
    assert (packed.unpack()[4] == 0.0).all()
