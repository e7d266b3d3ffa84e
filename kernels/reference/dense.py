"""Matrix product, attention and 8-bit floats in NumPy; ``reference`` says what holds for all."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..arrays import F32, FLOATS, Array, FloatArray, View, output, read, require_apart, write

Result = npt.NDArray[Any]
Format = Literal["e4m3", "e5m2"]


def matmul(a: Array, b: Array, out: Array | None = None) -> FloatArray:
    """Return the matrix product a b.

    Args:
        a: float32 (m, k), k >= 1.
        b: float32 (k, n).
        out: float32 (m, n), apart from both.

    Returns:
        ``out``, or a new array. Within k eps of the product of the magnitudes. For products inside
        a model use torch: it has packed weights and bfloat16.
    """
    left, right = read("a", a, F32, 2), read("b", b, F32, 2)
    m, k = left.array.shape
    if right.array.shape[0] != k:
        raise ValueError(f"a has {k} columns, b has {right.array.shape[0]} rows")
    if k == 0:
        raise ValueError("a must have at least 1 column, got 0")
    target, result = output("out", out, "float32", (m, right.array.shape[1]))
    require_apart("out", target, "a", left)
    require_apart("out", target, "b", right)
    target.array[...] = left.array @ right.array
    return result


def attention(
    q: Array,
    k: Array,
    v: Array,
    scale: float | None = None,
    causal: bool = True,
    flash: bool | None = None,
    out: Array | None = None,
) -> Result:
    """Return softmax(scale q k^T) v, head by head.

    Args:
        q: float32, bfloat16 or float16 (heads, queries, d), finite.
        k: (kv heads, keys, d), of q's type; the heads of q are a multiple of its heads.
        v: like k.
        scale: 1 / sqrt(d) by default.
        causal: query i sees the keys up to keys - queries + i.
        flash: online softmax over tiles of 256 keys (Dao et al., arXiv:2205.14135) or one row of
            scores at once; by default what was found faster on this processor,
            ``livemind bench kernels``. Without meaning here.
        out: like q, apart from all.

    Returns:
        ``out``, or a new array of q's type. Within keys eps, and 1 ulp of the type.
    """
    del flash
    query = read("q", q, FLOATS, 3)
    key, value = read("k", k, (query.kind,), 3), read("v", v, (query.kind,), 3)
    heads, queries, dim = query.array.shape
    kv_heads, keys, key_dim = key.array.shape
    if value.array.shape != key.array.shape:
        shape = ", ".join(map(str, key.array.shape))
        raise ValueError(f"v must have shape ({shape}), got {value.array.shape}")
    if key_dim != dim or dim == 0:
        raise ValueError(f"k has heads of {key_dim} elements, q of {dim}")
    if kv_heads == 0 or heads % kv_heads:
        raise ValueError(f"q has {heads} heads, no multiple of the {kv_heads} of k")
    if keys == 0 or (causal and keys < queries):
        raise ValueError(f"k has {keys} keys for {queries} queries")
    target, result = output("out", out, query.kind, query.array.shape)
    for name, other in (("q", query), ("k", key), ("v", value)):
        require_apart("out", target, name, other)
    factor = 1.0 / math.sqrt(dim) if scale is None else scale_of(scale)
    repeats = heads // kv_heads
    wide_k = np.repeat(key.floats(), repeats, axis=0)
    scores = np.einsum("hqd,hkd->hqk", query.floats() * np.float32(factor), wide_k)
    if causal:
        scores[:, np.triu(np.ones((queries, keys), bool), keys - queries + 1)] = -np.inf
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    target.write(np.einsum("hqk,hkd->hqd", weights, np.repeat(value.floats(), repeats, axis=0)))
    return result


def fp8_encode(
    x: Array, format: Format = "e4m3", scale: float = 1.0, out: Array | None = None
) -> npt.NDArray[np.uint8]:
    """Return x / scale as 8-bit floats: half the memory of bfloat16, as for a KV cache.

    Args:
        x: float32, bfloat16 or float16 (rows, n).
        format: ``e4m3`` (largest 448, no infinity) or ``e5m2`` (largest 57344).
        scale: above 1e-30, below 1e30.
        out: uint8, or torch's type of that format, (rows, n), apart from x.

    Returns:
        ``out``, or a new uint8 array: rounded to nearest even, beyond the largest number (infinity
        too) to the largest, NaN stays NaN. OCP 8-bit Floating Point Specification 1.0.
    """
    given = read("x", x, FLOATS, 2)
    _require_format(format)
    target, result = output("out", out, "uint8", given.array.shape)
    require_apart("out", target, "x", given)
    target.array[...] = _encode(given.floats() * np.float32(1.0 / scale_of(scale)), format)
    return result


def fp8_decode(
    x: Array, format: Format = "e4m3", scale: float = 1.0, out: Array | None = None
) -> Result:
    """Return 8-bit floats times scale; the inverse of ``fp8_encode``, exact but for the scale.

    Args:
        x: uint8, or torch's type of that format, (rows, n).
        format: ``e4m3`` or ``e5m2``.
        scale: above 1e-30, below 1e30.
        out: float32, bfloat16 or float16 (rows, n), apart from x.

    Returns:
        ``out``, or a new float32 array.
    """
    _require_format(format)
    codes = read("x", x, ("uint8",), 2)
    target: View
    if out is None:
        target, result = output("out", out, "float32", codes.array.shape)
    else:
        target, result = output("out", out, write("out", out, FLOATS, 2).kind, codes.array.shape)
    require_apart("out", target, "x", codes)
    target.write(_decode_table(format)[codes.array] * np.float32(scale_of(scale)))
    return result


def scale_of(value: float) -> float:
    """Return a scale after checking its range."""
    if not 1e-30 < value < 1e30:
        raise ValueError(f"scale must be above 1e-30 and below 1e30, got {float(value)}")
    return value


@functools.cache
def _decode_table(format: Format) -> FloatArray:
    mantissa, bias = (3, 7) if format == "e4m3" else (2, 15)
    codes = np.arange(128)
    exponent, fraction = codes >> mantissa, codes & ((1 << mantissa) - 1)
    normal = (1 + fraction / 2**mantissa) * 2.0 ** (exponent - bias)
    table = np.where(exponent == 0, fraction * 2.0 ** (1 - bias - mantissa), normal)
    if format == "e4m3":
        table[127] = np.nan
    else:
        table[124], table[125:] = np.inf, np.nan
    return np.asarray(np.concatenate([table, -table]), np.float32)


def _encode(values: FloatArray, format: Format) -> npt.NDArray[np.uint8]:
    finite = 127 if format == "e4m3" else 124
    table = _decode_table(format)[:finite].astype(np.float64)
    magnitude = np.minimum(np.abs(values.astype(np.float64)), table[-1])
    middles = (table[1:] + table[:-1]) / 2
    code = np.searchsorted(middles, magnitude)  # a middle goes down ...
    code += ((code < finite - 1) & (code % 2 == 1)) & (
        magnitude == middles[np.minimum(code, finite - 2)]
    )  # ... unless the even one is above
    code = np.where(np.isnan(values), 127, code)
    return np.asarray(code | np.where(np.signbit(values), 128, 0), np.uint8)


def _require_format(format: str) -> None:
    if format not in ("e4m3", "e5m2"):
        raise ValueError(f"format must be e4m3 or e5m2, got {format}")
