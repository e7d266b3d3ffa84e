"""Kernels inside a transformer in NumPy; ``reference`` says what holds for all kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import (
    F32,
    FLOATS,
    Array,
    FloatArray,
    from_float32,
    output,
    read,
    require_apart,
    require_shape,
    to_float32,
    write,
)
from ..quantized import Q4Weight, Q8Weight

Result = npt.NDArray[Any]


def rms_norm(x: Array, weight: Array, epsilon: float = 1e-6, out: Array | None = None) -> Result:
    """Return x / sqrt(mean(x^2) + epsilon) * weight, row by row.

    Args:
        x: float32, bfloat16 or float16 (rows, n).
        weight: (n,), of x's type.
        epsilon: 0 or more.
        out: like x; may be x itself.

    Returns:
        ``out``, or a new array of x's type. Computed in float32, and rounded to the type before it
        is multiplied by weight, as transformers and vLLM do: within 2 ulp of the type plus n / 8
        eps. Zhang and Sennrich, arXiv:1910.07467.
    """
    given = read("x", x, FLOATS, 2)
    scale = _weight(weight, given.kind, given.array.shape[1])
    target, result = output("out", out, given.kind, given.array.shape)
    require_apart("out", target, "x", given, same_allowed=True)
    target.write(_rounded(_normalised(given.floats(), epsilon), given.kind) * scale)
    return result


def fused_add_rms_norm(x: Array, residual: Array, weight: Array, epsilon: float = 1e-6) -> None:
    """Add x to the residual and normalise the sum, both in place.

    Args:
        x: float32, bfloat16 or float16 (rows, n). Becomes the RMSNorm of the sum.
        residual: like x, apart from it. Becomes x + residual, rounded to the type.
        weight: (n,), of x's type, apart from both.
        epsilon: 0 or more.

    As ``rms_norm`` of the sum before it is rounded, as in vLLM.
    """
    target = write("x", x, FLOATS, 2)
    added = write("residual", residual, (target.kind,), 2)
    require_shape("residual", added.array, target.array.shape)
    scale = _weight(weight, target.kind, target.array.shape[1])
    require_apart("residual", added, "x", target)
    total = target.floats() + added.floats()
    added.write(total)
    target.write(_rounded(_normalised(total, epsilon), target.kind) * scale)


def swiglu(x: Array, out: Array | None = None) -> Result:
    """Return silu of the first half of each row times the second half.

    Args:
        x: float32, bfloat16 or float16 (rows, 2 n): gates, then values.
        out: (rows, n), of x's type, apart from x.

    Returns:
        ``out``, or a new array. silu(g) = g / (1 + e^-g); within 4 ulp, or 1e-35 where
        g < -88. Shazeer, arXiv:2002.05202.
    """
    given = read("x", x, FLOATS, 2)
    rows, columns = given.array.shape
    if columns % 2:
        raise ValueError(f"x must have an even number of columns, got {columns}")
    target, result = output("out", out, given.kind, (rows, columns // 2))
    require_apart("out", target, "x", given)
    gate, up = np.split(given.floats(), 2, axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        target.write(gate / (np.float32(1.0) + np.exp(-gate)) * up)
    return result


def rope(x: Array, positions: Array, cos_sin: Array, interleaved: bool = False) -> None:
    """Rotate the heads of each token by its position, in place.

    Args:
        x: float32, bfloat16 or float16 (tokens, heads, d). The first r elements of each head
            are rotated, the others stay.
        positions: int64 (tokens,), rows of cos_sin.
        cos_sin: float32 (positions, r), contiguous: r / 2 cosines, then r / 2 sines.
        interleaved: pair element 2 i with 2 i + 1 (GPT-J) instead of i with r / 2 + i (NeoX).

    Computed in float32, rounded to x's type. Su et al., arXiv:2104.09864.
    """
    target = write("x", x, FLOATS, 3)
    rows = read("positions", positions, ("int64",), 1).array
    table = read("cos_sin", cos_sin, F32, 2).array
    require_shape("positions", rows, (target.array.shape[0],))
    rotary = table.shape[1]
    if rotary % 2 or rotary > target.array.shape[2]:
        raise ValueError(
            "cos_sin must have an even number of columns, at most the "
            f"{target.array.shape[2]} of x, got {rotary}"
        )
    for position in rows:
        if not 0 <= position < len(table):
            raise ValueError(
                f"positions must be below the {len(table)} rows of cos_sin and not negative, "
                f"got {position}"
            )
    cosine, sine = np.split(table[rows][:, None, :], 2, axis=2)
    values = target.floats()
    turned = values[..., :rotary]
    step = slice(0, None, 2) if interleaved else slice(0, rotary // 2)
    other = slice(1, None, 2) if interleaved else slice(rotary // 2, None)
    a, b = turned[..., step].copy(), turned[..., other].copy()
    turned[..., step] = a * cosine - b * sine
    turned[..., other] = b * cosine + a * sine
    target.write(values)


def q4_linear(
    x: Array, weight: Q4Weight, bias: Array | None = None, out: Array | None = None
) -> Result:
    """Return x times the transposed 4-bit weight, plus bias.

    Args:
        x: float32, bfloat16 or float16 (m, inputs).
        weight: as ``pack_q4`` or ``quantize_q4`` made it.
        bias: float32 (outputs,).
        out: (m, outputs), of x's type, apart from x.

    Returns:
        ``out``, or a new array of x's type. x is rounded to 8 bits per group of inputs
        (scale = largest magnitude / 127): that is the error, about 0.5 % of the norm of the
        result for normally distributed rows; the integer products are exact.

    Raises:
        TypeError: an argument has another type.
        ValueError: wrong shape, or memory in common with ``out``.
    """
    return _packed_linear(x, weight, Q4Weight, bias, out)


def q8_linear(
    x: Array, weight: Q8Weight, bias: Array | None = None, out: Array | None = None
) -> Result:
    """Return x times the transposed 8-bit weight, plus bias.

    Args, Returns, Raises: as ``q4_linear``, of a weight that ``pack_q8`` or ``quantize_q8`` made.
    """
    return _packed_linear(x, weight, Q8Weight, bias, out)


def _packed_linear(
    x: Array,
    weight: Q4Weight | Q8Weight,
    kind: type[Q4Weight] | type[Q8Weight],
    bias: Array | None,
    out: Array | None,
) -> Result:
    given = read("x", x, FLOATS, 2)
    if not isinstance(weight, kind):
        raise TypeError(f"weight must be a {kind.__name__}, got {type(weight).__name__}")
    rows, inputs = given.array.shape
    if inputs != weight.inputs:
        raise ValueError(
            f"x has {inputs} columns, weight has groups of {weight.group} "
            f"and {weight.inputs} inputs"
        )
    target, result = output("out", out, given.kind, (rows, weight.outputs))
    require_apart("out", target, "x", given)
    groups = given.floats().reshape(rows, -1, weight.group)
    largest = np.abs(groups).max(axis=2)
    safe = np.where(largest > 0, largest, np.float32(1.0))
    codes = np.rint(groups * (np.float32(127.0) / safe)[..., None])
    rounded = codes * (largest / np.float32(127.0))[..., None]
    product = rounded.reshape(rows, inputs).astype(np.float32) @ weight.unpack().T
    if bias is not None:
        added = read("bias", bias, F32, 1).array
        require_shape("bias", added, (weight.outputs,))
        product = product + added
    target.write(product)
    return result


def _weight(weight: Array, kind: str, size: int) -> FloatArray:
    given = read("weight", weight, (kind,), 1)
    require_shape("weight", given.array, (size,))
    return given.floats()


def _rounded(x: FloatArray, kind: str) -> FloatArray:
    return to_float32(from_float32(x, kind), kind)


def _normalised(x: FloatArray, epsilon: float) -> FloatArray:
    if not 0 <= epsilon < 1e30:
        raise ValueError(f"epsilon must be 0 or more and finite, got {epsilon}")
    with np.errstate(invalid="ignore", over="ignore"):  # a row with infinity becomes NaN
        mean = np.mean(np.square(x, dtype=np.float32), axis=1, keepdims=True, dtype=np.float32)
        return np.asarray(x * (np.float32(1.0) / np.sqrt(mean + np.float32(epsilon))), np.float32)
