"""Weights that had only 4 bits before they were dense: their codes come back."""

from __future__ import annotations

import numpy as np
import pytest

from livemind.kernels.quantized import pack_q4, regain_q4

ROWS, INPUTS = 32, 256


def normal(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((ROWS, INPUTS)).astype(np.float32)


def bfloat16(values: np.ndarray) -> np.ndarray:
    """Return the values rounded to bfloat16, halves to even."""
    bits = values.view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded & 0xFFFF0000).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("stored", [bfloat16, lambda values: values.astype(np.float16)])
@pytest.mark.parametrize("most", [8, 11, 15])
def test_regain_finds_the_codes_that_the_weights_had(stored: object, most: int) -> None:
    rng = np.random.default_rng(most)
    codes = rng.integers(0, most + 1, (ROWS, INPUTS), np.uint8)
    codes[:, ::32], codes[:, 1::32] = 0, most  # the ends occur in every group
    scales = rng.uniform(0.01, 0.3, (ROWS, INPUTS // 32)).astype(np.float32)
    zeros = rng.uniform(2.0, most, scales.shape).astype(np.float32)
    exact = pack_q4(codes, scales, zeros).unpack()
    packed = regain_q4(stored(exact).astype(np.float32))  # type: ignore[operator]
    assert packed is not None
    np.testing.assert_array_equal(packed.codes, pack_q4(codes, scales, zeros).codes)
    assert np.linalg.norm(packed.unpack() - exact) <= 0.004 * np.linalg.norm(exact)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_regain_loses_nothing_of_gguf_blocks(kind: str) -> None:
    gguf = pytest.importorskip("gguf")
    block = gguf.GGMLQuantizationType[kind]
    dense = gguf.quants.dequantize(gguf.quants.quantize(normal(1), block), block)
    packed = regain_q4(dense)
    assert packed is not None
    np.testing.assert_allclose(packed.unpack(), dense, rtol=1e-5, atol=1e-6)
    assert regain_q4(bfloat16(dense)) is not None


@pytest.mark.parametrize("kind", ["Q5_0", "Q5_1", "Q8_0"])
def test_regain_leaves_blocks_of_more_bits_alone(kind: str) -> None:
    gguf = pytest.importorskip("gguf")
    block = gguf.GGMLQuantizationType[kind]
    assert regain_q4(gguf.quants.dequantize(gguf.quants.quantize(normal(2), block), block)) is None


@pytest.mark.parametrize("stored", [bfloat16, lambda values: values])
def test_regain_takes_the_number_of_steps_that_the_weights_had(stored: object) -> None:
    codes = np.resize(np.array([0, 14, 1, 13], np.uint8), (16, 64))
    exact = pack_q4(codes, np.full((16, 2), 0.1, np.float32), np.zeros((16, 2), np.float32))
    packed = regain_q4(stored(exact.unpack()))  # type: ignore[operator]
    assert packed is not None
    assert np.abs(packed.unpack() - exact.unpack()).max() <= 0.003 * 1.4


@pytest.mark.parametrize("stored", [bfloat16, lambda values: values])
def test_regain_leaves_groups_alone_that_are_too_narrow_to_tell(stored: object) -> None:
    near_one = 1.0 + 0.2 * np.random.default_rng(6).random((16, 64), np.float32)
    assert regain_q4(stored(near_one)) is None  # type: ignore[operator]


@pytest.mark.parametrize("stored", [np.float16, np.float32])
def test_regain_sees_a_small_change_of_weights_that_are_not_in_bfloat16(stored: type) -> None:
    gguf = pytest.importorskip("gguf")
    block = gguf.GGMLQuantizationType.Q4_0
    dense = gguf.quants.dequantize(gguf.quants.quantize(normal(7), block), block)
    assert regain_q4(dense.astype(stored).astype(np.float32)) is not None
    assert regain_q4((dense + 0.001 * normal(8)).astype(stored).astype(np.float32)) is None


def test_regain_leaves_other_weights_alone_even_where_one_group_alone_is_not_of_4_bits() -> None:
    assert regain_q4(normal(3)) is None
    mixed = np.zeros((ROWS, INPUTS), np.float32)
    assert regain_q4(mixed) is not None
    mixed[-1, -32:] = normal(4)[0, :32]
    assert regain_q4(mixed) is None
