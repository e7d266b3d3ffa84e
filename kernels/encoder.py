"""The weights of one layer of a BERT encoder, packed for the kernel (Devlin et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import FloatArray, from_float32, to_float32

BFloat16 = npt.NDArray[np.uint16]

__all__ = ["EncoderLayer", "pack_columns", "unpack_columns"]

PANEL = 32  # outputs that the kernel computes together


@dataclass(frozen=True, slots=True, eq=False)
class EncoderLayer:
    """One layer; the arrays are not to be changed.

    Attributes:
        qkv: query, key and value as one map, of ``pack_columns``: dim to 3 dim.
        attention_out, up, down: the same: dim to dim, dim to inner, inner to dim.
        qkv_bias, attention_bias, up_bias, down_bias: float32, one for each output.
        attention_norm, output_norm: float32 (2, dim): weight and bias of the layer norms behind
            the attention and behind ``down``.
        heads: of the attention; divides dim.
        epsilon: of the layer norms, >= 0.

    Raises:
        TypeError: a weight is no array, or epsilon no number; the kernel checks the rest.
    """

    qkv: BFloat16
    attention_out: BFloat16
    up: BFloat16
    down: BFloat16
    qkv_bias: FloatArray
    attention_bias: FloatArray
    up_bias: FloatArray
    down_bias: FloatArray
    attention_norm: FloatArray
    output_norm: FloatArray
    heads: int
    epsilon: float

    def __post_init__(self) -> None:
        """Check what the kernel relies on before it looks closer."""
        for field in fields(self)[:-2]:
            value = getattr(self, field.name)
            if not isinstance(value, np.ndarray) or value.ndim == 0:
                kind = type(value).__name__
                raise TypeError(f"layer.{field.name} must be an array, got {kind}")
        if isinstance(self.epsilon, bool) or not isinstance(self.epsilon, (int, float)):
            kind = type(self.epsilon).__name__
            raise TypeError(f"layer.epsilon must be a number, got {kind}")


def pack_columns(weight: npt.NDArray[Any]) -> BFloat16:
    """Return float32 (outputs, inputs) rounded to bfloat16, (outputs / 32, inputs / 2, 64).

    A row of the last axis has two inputs of 32 outputs, pair by pair.

    Raises:
        ValueError: not two axes, outputs no multiple of 32 or inputs no even number.
    """
    if np.ndim(weight) != 2:
        raise ValueError(f"weight must have 2 axes, got {np.ndim(weight)}")
    outputs, inputs = weight.shape
    if outputs % PANEL or inputs % 2:
        raise ValueError(
            f"weight must have a multiple of 32 rows and of 2 columns, got ({outputs}, {inputs})"
        )
    narrow = from_float32(np.ascontiguousarray(weight, np.float32), "bfloat16")
    pairs = narrow.reshape(outputs // PANEL, PANEL, inputs // 2, 2).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(pairs).reshape(outputs // PANEL, inputs // 2, 2 * PANEL)


def unpack_columns(packed: BFloat16) -> FloatArray:
    """Return the weights of ``pack_columns`` as float32 (outputs, inputs)."""
    panels, halves, _ = packed.shape
    pairs = packed.reshape(panels, halves, PANEL, 2).transpose(0, 2, 1, 3)
    return to_float32(pairs.reshape(panels * PANEL, halves * 2), "bfloat16")
