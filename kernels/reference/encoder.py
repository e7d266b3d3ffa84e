"""One layer of a BERT encoder in NumPy; ``reference`` says what holds for all."""

from __future__ import annotations

import numpy as np

from ..arrays import (
    F32,
    Array,
    FloatArray,
    from_float32,
    integer,
    read,
    require_apart,
    require_shape,
    to_float32,
    write,
)
from ..encoder import PANEL, EncoderLayer, unpack_columns


def encoder_layer(x: Array, layer: EncoderLayer, lengths: Array) -> None:
    """Apply one layer of a BERT encoder in place.

    Args:
        x: float32 (tokens, dim), contiguous, finite: the texts one after another.
        layer: its weights; dim is a multiple of 32.
        lengths: int64 (texts,), >= 1, tokens of each; a token sees those of its text. They add up
            to the rows of x.

    Products add up in float32. Beside the weights they take activations in bfloat16, here and on
    tier ``avx512_dl``; other tiers take those in float32, as everything else is everywhere. The
    result is that of float32 within about 0.01 where rows have unit variance. The compiled kernel
    releases the GIL and takes one thread.
    Source: Devlin et al. 2019, "BERT"; Hendrycks and Gimpel 2016 for the GELU (error function).
    """
    target = write("x", x, F32, 2)
    rows, dim = target.array.shape
    if not target.array.flags.c_contiguous:
        raise ValueError("x must be contiguous")
    if not isinstance(layer, EncoderLayer):
        raise TypeError(f"layer must be an EncoderLayer, got {type(layer).__name__}")
    heads = integer("layer.heads", layer.heads)
    inner = PANEL * len(layer.up)
    if dim < 1 or dim % PANEL or heads < 1 or dim % heads or inner < 1:
        raise ValueError(
            f"x has {dim} columns for {heads} heads: a multiple of both 32 and these is needed"
        )
    for name, outputs, inputs in (
        ("qkv", 3 * dim, dim),
        ("attention_out", dim, dim),
        ("up", inner, dim),
        ("down", dim, inner),
    ):
        part = read(f"layer.{name}", getattr(layer, name), ("bfloat16",), 3)
        require_shape(f"layer.{name}", part.array, (outputs // PANEL, inputs // 2, 2 * PANEL))
        require_apart("x", target, f"layer.{name}", part)
    for name, shape in (
        ("qkv_bias", (3 * dim,)),
        ("attention_bias", (dim,)),
        ("up_bias", (inner,)),
        ("down_bias", (dim,)),
        ("attention_norm", (2, dim)),
        ("output_norm", (2, dim)),
    ):
        part = read(f"layer.{name}", getattr(layer, name), F32, len(shape))
        require_shape(f"layer.{name}", part.array, shape)
        require_apart("x", target, f"layer.{name}", part)
    if not 0.0 <= layer.epsilon < 1e30:
        raise ValueError("layer.epsilon must be 0 or more and finite")
    counts = read("lengths", lengths, ("int64",), 1)
    require_apart("x", target, "lengths", counts)
    _require_lengths(counts.array.tolist(), rows)
    if rows:
        target.array[...] = _apply(target.array, layer, counts.array.tolist())


def _require_lengths(lengths: list[int], rows: int) -> None:
    told = f"lengths must be 1 or more and add up to the {rows} rows of x, got"
    total = 0
    for length in lengths:
        if length < 1 or length > rows - total:
            raise ValueError(f"{told} {length}")
        total += length
    if total != rows:
        raise ValueError(f"{told} {total} in all")


def _apply(x: FloatArray, layer: EncoderLayer, lengths: list[int]) -> FloatArray:
    rows, dim = x.shape
    size = dim // layer.heads
    qkv = _product(x, layer.qkv, layer.qkv_bias).reshape(rows, 3, layer.heads, size)
    seen = np.empty((rows, dim), np.float32)
    first = 0
    for length in lengths:
        last = first + length
        query, key, value = qkv[first:last].transpose(1, 2, 0, 3)
        scores = query @ (key / np.float32(np.sqrt(size))).transpose(0, 2, 1)
        weights = np.exp(scores - scores.max(2, keepdims=True))
        weights /= weights.sum(2, keepdims=True)
        seen[first:last] = (weights @ value).transpose(1, 0, 2).reshape(length, dim)
        first = last
    x = x + _product(seen, layer.attention_out, layer.attention_bias)
    x = _norm(x, layer.attention_norm, layer.epsilon)
    inner = _gelu(_product(x, layer.up, layer.up_bias))
    return _norm(x + _product(inner, layer.down, layer.down_bias), layer.output_norm, layer.epsilon)


def _product(x: FloatArray, packed: Array, bias: FloatArray) -> FloatArray:
    narrow = to_float32(from_float32(x, "bfloat16"), "bfloat16")
    found: FloatArray = narrow @ unpack_columns(np.asarray(packed)).T + bias
    return found


def _gelu(x: FloatArray) -> FloatArray:
    """Return x Phi(x); the error function is 7.1.26 of Abramowitz and Stegun, within 1.5e-7."""
    size = np.abs(x) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * size)
    parts = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    tail = 0.5 * t * np.polyval(np.array(parts, np.float32), t) * np.exp(-size * size)
    found: FloatArray = x * np.where(x < 0, tail, 1 - tail)
    return found


def _norm(x: FloatArray, norm: FloatArray, epsilon: float) -> FloatArray:
    middle = x - x.mean(1, keepdims=True)
    scale = 1 / np.sqrt((middle * middle).mean(1, keepdims=True) + np.float32(epsilon))
    found: FloatArray = middle * scale * norm[0] + norm[1]
    return found
