"""Weights of 4 or 8 bits of a linear layer: what they are, and how they are packed for the kernels.

A weight is ``scale * (code - zero)`` with codes 0 to 15 or 0 to 255 and one scale and zero point
per output and group of inputs, as AWQ and GPTQ store them (Lin et al., arXiv:2306.00978,
section 4) and as every block of GGUF's Q4_0, Q4_1, Q8_0, Q4_K and Q6_K can be written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

__all__ = [
    "Q4Weight",
    "Q8Weight",
    "pack_q4",
    "pack_q8",
    "quantize_q4",
    "quantize_q8",
    "quantized_codes",
    "regain_q4",
]

_BLOCK = 16  # outputs that the kernels compute together


@dataclass(frozen=True, slots=True, eq=False)
class _Packed:
    """Packed weights of one layer; the arrays are not to be changed.

    Attributes:
        codes: uint8 (ceil(outputs / 16), inputs * bits / 32, 64), see the classes.
        scales: float32 (ceil(outputs / 16), inputs / group, 16).
        offsets: float32, same shape: scale * zero point.
        outputs: rows of the weight matrix; what was added to fill the last block has scale 0.
        group: inputs that share a scale; a multiple of 8.
    """

    bits: ClassVar[int]
    codes: ByteArray
    scales: FloatArray
    offsets: FloatArray
    outputs: int
    group: int

    @property
    def inputs(self) -> int:
        """Columns of the weight matrix."""
        return int(self.codes.shape[1]) * 32 // self.bits

    def unpack(self) -> FloatArray:
        """Return the weights as float32 (outputs, inputs)."""
        blocks, loads, _ = self.codes.shape
        codes = self.codes.reshape(blocks, loads, _BLOCK, 4)
        if self.bits == 4:
            codes = np.concatenate([codes & 15, codes >> 4], axis=3)
        codes = codes.transpose(0, 2, 1, 3).reshape(blocks, _BLOCK, -1, self.group)
        scales = self.scales.transpose(0, 2, 1)[..., None]
        offsets = self.offsets.transpose(0, 2, 1)[..., None]
        weights = codes.astype(np.float32) * scales - offsets
        rows = weights.reshape(blocks * _BLOCK, self.inputs)[: self.outputs]
        return np.asarray(rows, np.float32)


class Q4Weight(_Packed):
    """Packed weights of 4 bits.

    Byte ``4 * output + j`` of ``codes`` has the code of input j of eight in its low and of input
    4 + j in its high nibble.
    """

    __slots__ = ()
    bits = 4


class Q8Weight(_Packed):
    """Packed weights of 8 bits: byte ``4 * output + j`` of ``codes`` has input j of four."""

    __slots__ = ()
    bits = 8


Weight = TypeVar("Weight", Q4Weight, Q8Weight)


def pack_q4(
    codes: ByteArray,
    scales: FloatArray,
    zeros: FloatArray | float = 8.0,
    *,
    offsets: FloatArray | None = None,
) -> Q4Weight:
    """Pack the codes of a weight matrix of 4 bits.

    Args:
        codes: uint8 (outputs, inputs), 0 to 15.
        scales: float32 (outputs, inputs / group); the group follows from the shape and must be
            a multiple of 8.
        zeros: float32 of the same shape, or one number: the code that means 0.
        offsets: float32 of the same shape, scale * zero, in place of ``zeros``.

    Raises:
        TypeError: codes are not uint8, or scales or zeros not float32.
        ValueError: shapes do not fit, a code is above 15, or a scale or zero is not finite.
    """
    return _pack(Q4Weight, codes, scales, zeros, offsets)


def pack_q8(
    codes: ByteArray,
    scales: FloatArray,
    zeros: FloatArray | float = 128.0,
    *,
    offsets: FloatArray | None = None,
) -> Q8Weight:
    """Pack the codes of a weight matrix of 8 bits; as ``pack_q4`` with codes 0 to 255."""
    return _pack(Q8Weight, codes, scales, zeros, offsets)


def quantize_q4(weight: FloatArray, group: int = 128) -> Q4Weight:
    """Quantise a weight matrix to 4 bits and pack it.

    Args, Returns, Raises: as ``quantized_codes``, packed by ``pack_q4``. Each weight differs from
    the original by at most half its group's scale.
    """
    return pack_q4(*quantized_codes(weight, group, 4))


def regain_q4(weight: FloatArray, group: int = 32) -> Q4Weight | None:
    """Pack a weight matrix that was computed from 4 bits, as from GGUF's Q4_0, Q4_1 or Q4_K.

    Each group has to lie on at most 16 equally spaced values, as near as the format in which the
    weights were stored can hold them: bfloat16, float16 or float32, seen from the values.

    Args:
        weight: float32 (outputs, inputs), finite.
        group: inputs that share a scale; a multiple of 8 that divides the inputs.

    Returns:
        The packed weights; None if a group does not, or is too narrow for its format to tell.
    """
    groups = weight.reshape(-1, group)
    low, high = groups.min(axis=1, keepdims=True), groups.max(axis=1, keepdims=True)
    allowed = _rounding(weight) * np.maximum(-low, high)  # of an element beside its value
    codes = np.empty(groups.shape, np.uint8)
    scales, best = np.zeros_like(low), np.full_like(low, np.inf)
    left = np.arange(len(groups))
    for steps in range(15, 0, -1):  # between the smallest and the largest that occur
        part, least, most = groups[left], low[left], allowed[left]
        scale = (high[left] - least) / np.float32(steps)
        found = np.rint((part - least) / np.where(scale > 0.0, scale, np.float32(1.0)))
        beside = np.abs(found * scale + least - part)
        spread = np.sqrt((beside * beside).mean(axis=1, keepdims=True))
        fits = (beside.max(axis=1, keepdims=True) <= most) & (spread < best[left])
        fits &= (scale >= 8.0 * most) | (scale == 0.0)  # a finer grid fits anything
        better = left[fits[:, 0]]
        codes[better], scales[better] = found[fits[:, 0]], scale[fits[:, 0]]
        best[better] = spread[fits[:, 0]]
        # Of those that may fit by chance the nearest is sought.
        left = left[(best[left] > 0.25 * most)[:, 0]]
    if not np.isfinite(best).all():
        return None
    shape = (weight.shape[0], -1)
    offsets = (-low).reshape(shape)
    return pack_q4(codes.reshape(shape), scales.reshape(shape), offsets=offsets)


def _rounding(weight: FloatArray) -> np.float32:
    """Return how far rounding may have moved a value from its grid, as a share of the largest."""
    if not (weight.view(np.uint32) & 0xFFFF).any():
        return np.float32(2**-7)  # bfloat16; twice half of a last bit, as the ends are rounded too
    with np.errstate(over="ignore"):
        halves = weight.astype(np.float16).astype(np.float32)
    return np.float32(2**-10 if np.array_equal(halves, weight) else 2**-20)


def quantize_q8(weight: FloatArray, group: int = 32) -> Q8Weight:
    """Quantise a weight matrix to 8 bits and pack it; as ``quantize_q4``."""
    return pack_q8(*quantized_codes(weight, group, 8))


def quantized_codes(
    weight: FloatArray, group: int, bits: int
) -> tuple[ByteArray, FloatArray, FloatArray]:
    """Quantise a weight matrix, each group by its smallest and largest element.

    Args:
        weight: float32 (outputs, inputs), finite.
        group: inputs that share a scale; a multiple of 8 that divides the inputs.
        bits: 4 or 8.

    Returns:
        Codes uint8 (outputs, inputs), scales and zero points float32 (outputs, inputs / group).
        A scale is its group's range (with 0) divided by the largest code; zero points are not
        whole: rounding them, as AWQ's format has to, costs most of what a small model can lose.

    Raises:
        TypeError: weight is not float32.
        ValueError: wrong shape or group, or a weight is not finite.
    """
    if not isinstance(weight, np.ndarray) or weight.dtype != np.float32:
        raise TypeError(f"weight must be a float32 array, got {_described(weight)}")
    if weight.ndim != 2 or not weight.size:
        raise ValueError(f"weight must have 2 dimensions and elements, got shape {weight.shape}")
    outputs, inputs = weight.shape
    if group < 8 or group % 8 or inputs % group:
        raise ValueError(f"group must be a multiple of 8 that divides {inputs}, got {group}")
    if not np.isfinite(weight).all():
        raise ValueError("weight must be finite")
    largest = (1 << bits) - 1
    groups = weight.reshape(outputs, -1, group)
    low = np.minimum(groups.min(axis=2), 0.0)
    high = np.maximum(groups.max(axis=2), 0.0)
    scales = ((high - low) / np.float32(largest)).astype(np.float32)
    safe = np.where(scales > 0.0, scales, np.float32(1.0))
    zeros = (-low / safe).astype(np.float32)
    codes = np.clip(np.rint(groups / safe[..., None] + zeros[..., None]), 0, largest)
    return codes.astype(np.uint8).reshape(outputs, inputs), scales, zeros


def _pack(
    kind: type[Weight],
    codes: ByteArray,
    scales: FloatArray,
    zeros: FloatArray | float,
    offsets: FloatArray | None,
) -> Weight:
    if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8:
        raise TypeError(f"codes must be a uint8 array, got {_described(codes)}")
    if not isinstance(scales, np.ndarray) or scales.dtype != np.float32:
        raise TypeError(f"scales must be a float32 array, got {_described(scales)}")
    if codes.ndim != 2 or scales.ndim != 2:
        raise ValueError(
            f"codes and scales must have 2 dimensions, got {codes.ndim} and {scales.ndim}"
        )
    outputs, inputs = codes.shape
    groups = scales.shape[1]
    if scales.shape[0] != outputs or not groups or inputs % (8 * groups):
        raise ValueError(
            f"scales of shape {scales.shape} do not divide codes of shape {codes.shape} "
            "into groups of a multiple of 8"
        )
    if not outputs or not inputs:
        raise ValueError(f"codes must not be empty, got shape {codes.shape}")
    if codes.max() >> kind.bits:
        raise ValueError(f"codes must be at most {(1 << kind.bits) - 1}, got {codes.max()}")
    for name, values in (("zeros", zeros), ("offsets", offsets)):
        if isinstance(values, np.ndarray) and values.dtype != np.float32:
            raise TypeError(f"{name} must be float32, got {values.dtype}")
        if isinstance(values, np.ndarray) and values.shape != scales.shape:
            raise ValueError(f"{name} must have shape {scales.shape}, got {values.shape}")
    if offsets is None:
        offsets = (scales * zeros).astype(np.float32)
    if not (np.isfinite(scales).all() and np.isfinite(offsets).all()):
        raise ValueError("scales and zeros must be finite")
    blocks = -(-outputs // _BLOCK)
    missing = ((0, blocks * _BLOCK - outputs), (0, 0))
    loads = np.pad(codes, missing).reshape(blocks, _BLOCK, -1, 8 // kind.bits, 4)
    parts = loads.transpose(0, 2, 1, 3, 4)
    packed: ByteArray = parts[:, :, :, 0]
    if kind.bits == 4:
        packed = np.bitwise_or(packed, parts[:, :, :, 1] << 4, dtype=np.uint8)
    return kind(
        codes=np.ascontiguousarray(packed).reshape(blocks, inputs * kind.bits // 32, 64),
        scales=_blocked(np.pad(scales, missing), blocks),
        offsets=_blocked(np.pad(offsets, missing), blocks),
        outputs=outputs,
        group=inputs // groups,
    )


def _blocked(values: FloatArray, blocks: int) -> FloatArray:
    groups = values.shape[1]
    return np.ascontiguousarray(values.reshape(blocks, _BLOCK, groups).transpose(0, 2, 1))


def _described(value: object) -> str:
    return str(value.dtype) if isinstance(value, np.ndarray) else type(value).__name__
