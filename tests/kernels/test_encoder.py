"""One layer of a BERT encoder on every tier, against float64."""

from __future__ import annotations

import math
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from livemind.kernels import EncoderLayer, pack_columns
from livemind.kernels.encoder import unpack_columns

Wide = NDArray[np.float64]

erf = np.vectorize(math.erf)


def some_layer(dim: int, inner: int, heads: int) -> EncoderLayer:
    rng = np.random.default_rng(dim)

    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape).astype(np.float32)

    return EncoderLayer(
        qkv=pack_columns(normal(3 * dim, dim) * dim**-0.5),
        attention_out=pack_columns(normal(dim, dim) * dim**-0.5),
        up=pack_columns(normal(inner, dim) * dim**-0.5),
        down=pack_columns(normal(dim, inner) * inner**-0.5),
        qkv_bias=normal(3 * dim),
        attention_bias=normal(dim),
        up_bias=normal(inner),
        down_bias=normal(dim),
        attention_norm=np.stack([1 + 0.1 * normal(dim), normal(dim)]),
        output_norm=np.stack([1 + 0.1 * normal(dim), normal(dim)]),
        heads=heads,
        epsilon=1e-12,
    )


def texts(lengths: list[int], dim: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(sum(lengths))
    return rng.standard_normal((sum(lengths), dim)).astype(np.float32), np.array(lengths, np.int64)


def in_float64(x: Wide, layer: EncoderLayer) -> Wide:
    """The layer on one text, with the rounded weights and nothing else rounded."""
    dim, size = x.shape[1], x.shape[1] // layer.heads

    def norm(rows: Wide, weights: NDArray[np.float32]) -> Wide:
        middle = rows - rows.mean(1, keepdims=True)
        deviation = np.sqrt((middle**2).mean(1, keepdims=True))
        normed: Wide = middle / deviation * weights[0] + weights[1]
        return normed

    q, k, v = np.split(x @ unpack_columns(layer.qkv).T + layer.qkv_bias, 3, axis=1)
    seen = np.empty_like(x)
    for head in range(layer.heads):
        part = slice(head * size, (head + 1) * size)
        weights = np.exp(q[:, part] @ k[:, part].T / math.sqrt(size))
        seen[:, part] = weights / weights.sum(1, keepdims=True) @ v[:, part]
    assert seen.shape[1] == dim
    found = seen @ unpack_columns(layer.attention_out).T + layer.attention_bias
    x = norm(x + found, layer.attention_norm)
    inner = x @ unpack_columns(layer.up).T + layer.up_bias
    inner *= 0.5 * (1 + erf(inner / math.sqrt(2)))
    return norm(x + inner @ unpack_columns(layer.down).T + layer.down_bias, layer.output_norm)


@pytest.mark.parametrize(("dim", "inner", "heads"), [(32, 64, 1), (96, 32, 4), (384, 1536, 12)])
@pytest.mark.parametrize("length", [1, 2, 3, 6, 7, 13, 14, 15, 29, 47])
def test_encoder_layer_any_length_matches_float64(
    tier: ModuleType, dim: int, inner: int, heads: int, length: int
) -> None:
    """Rounding to bfloat16 (1/256) of the inputs of four products is what is left."""
    layer = some_layer(dim, inner, heads)
    x, lengths = texts([length], dim)
    exact = in_float64(x.astype(np.float64), layer)
    tier.encoder_layer(x, layer, lengths)
    assert np.abs(x - exact).max() < 0.05
    assert np.sqrt(np.mean((x - exact) ** 2)) < 0.006


def test_encoder_layer_long_text_matches_float64(tier: ModuleType) -> None:
    """More keys than one panel of the product with the values holds."""
    layer = some_layer(32, 64, 2)
    x, lengths = texts([300], 32)
    exact = in_float64(x.astype(np.float64), layer)
    tier.encoder_layer(x, layer, lengths)
    assert np.abs(x - exact).max() < 0.05


def test_encoder_layer_texts_do_not_see_each_other(tier: ModuleType) -> None:
    layer = some_layer(96, 128, 3)
    x, lengths = texts([3, 1, 16, 20], 96)
    alone = x.copy()
    x[3] = np.nan
    tier.encoder_layer(x, layer, lengths)
    assert np.isnan(x[3]).all()
    first = 0
    for count in lengths:
        rows = slice(first, first := first + count)
        tier.encoder_layer(alone[rows], layer, np.array([count]))
        if count > 1:
            np.testing.assert_allclose(x[rows], alone[rows], rtol=0, atol=1e-2)


def test_encoder_layer_no_texts_change_nothing(tier: ModuleType) -> None:
    x, lengths = texts([], 32)
    tier.encoder_layer(x, some_layer(32, 32, 1), lengths)
    assert x.shape == (0, 32)


@pytest.mark.parametrize(
    ("change", "lengths", "error", "message"),
    [
        ({"heads": 5}, [4], ValueError, "x has 32 columns for 5 heads"),
        ({"heads": 0}, [4], ValueError, "x has 32 columns for 0 heads"),
        ({"heads": 2.0}, [4], TypeError, "layer.heads must be an integer"),
        ({"qkv": np.zeros((2, 16, 64), np.uint16)}, [4], ValueError, "layer.qkv must have shape"),
        ({"up": np.zeros((0, 16, 64), np.uint16)}, [4], ValueError, "x has 32 columns"),
        ({"down": np.zeros((1, 16, 64), np.float32)}, [4], TypeError, "layer.down must be bfloat"),
        ({"up_bias": np.zeros(63, np.float32)}, [4], ValueError, "layer.up_bias must have shape"),
        ({"output_norm": np.zeros(32, np.float32)}, [4], ValueError, "layer.output_norm must have"),
        ({"epsilon": -1.0}, [4], ValueError, "layer.epsilon must be 0 or more"),
        ({"epsilon": float("nan")}, [4], ValueError, "layer.epsilon must be 0 or more"),
        ({}, [3], ValueError, "add up to the 4 rows of x, got 3 in all"),
        ({}, [3, 2], ValueError, "add up to the 4 rows of x, got 2"),
        ({}, [4, 0], ValueError, "lengths must be 1 or more"),
        ({}, [-1, 5], ValueError, "lengths must be 1 or more"),
        ({}, [2**62, 2**62], ValueError, "lengths must be 1 or more"),
        ({}, [4.0], TypeError, "lengths must be int64"),
    ],
)
def test_encoder_layer_wrong_argument_is_named(
    tier: ModuleType,
    change: dict[str, Any],
    lengths: list[float],
    error: type[Exception],
    message: str,
) -> None:
    layer = replace(some_layer(32, 64, 2), **change)
    x = np.ones((4, 32), np.float32)
    with pytest.raises(error, match=message):
        tier.encoder_layer(x, layer, np.array(lengths))
    assert (x == 1).all()


def test_encoder_layer_refuses_rows_apart_and_another_type(tier: ModuleType) -> None:
    layer, lengths = some_layer(32, 64, 2), np.array([4])
    with pytest.raises(ValueError, match="x must be contiguous"):
        tier.encoder_layer(np.ones((4, 40), np.float32)[:, :32], layer, lengths)
    with pytest.raises(TypeError, match="layer must be an EncoderLayer"):
        tier.encoder_layer(np.ones((4, 32), np.float32), None, lengths)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": None}, "layer.epsilon must be a number, got NoneType"),
        ({"epsilon": "1"}, "layer.epsilon must be a number, got str"),
        ({"up": None}, "layer.up must be an array, got NoneType"),
        ({"up": np.float32(1)}, "layer.up must be an array, got float32"),
    ],
)
def test_encoder_layer_weights_of_another_type_are_named(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        replace(some_layer(32, 64, 2), **change)


def test_pack_columns_of_one_axis_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="weight must have 2 axes, got 1"):
        pack_columns(np.ones(32, np.float32))


def test_pack_columns_is_undone_by_unpack_columns() -> None:
    weight = np.arange(64 * 6, dtype=np.float32).reshape(64, 6) % 251
    np.testing.assert_array_equal(unpack_columns(pack_columns(weight)), weight)
    with pytest.raises(ValueError, match=r"got \(33, 6\)"):
        pack_columns(np.ones((33, 6), np.float32))
