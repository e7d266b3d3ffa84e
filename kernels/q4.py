"""Four-bit weights of a linear layer: what they are, and how they are packed for the kernel.

A weight is ``scale * (code - zero)`` with codes 0 to 15 and one scale and zero point per output
and group of inputs, as AWQ and GPTQ store them (Lin et al., arXiv:2306.00978, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

__all__ = ["Q4Weight", "pack_q4", "q4_codes", "quantize_q4"]

_BLOCK = 16  # outputs that the kernel computes together


@dataclass(frozen=True, slots=True, eq=False)
class Q4Weight:
    """Packed weights of one layer; the arrays are not to be changed.

    Attributes:
        codes: uint8 (ceil(outputs / 16), inputs / 8, 64): byte ``4 * output + j`` has the code
            of input j of eight in its low and of input 4 + j in its high nibble.
        scales: float32 (ceil(outputs / 16), inputs / group, 16).
        offsets: float32, same shape: scale * zero point.
        outputs: rows of the weight matrix; what was added to fill the last block has scale 0.
        group: inputs that share a scale; a multiple of 8.
    """

    codes: ByteArray
    scales: FloatArray
    offsets: FloatArray
    outputs: int
    group: int

    @property
    def inputs(self) -> int:
        """Columns of the weight matrix."""
        return int(self.codes.shape[1]) * 8

    def unpack(self) -> FloatArray:
        """Return the weights as float32 (outputs, inputs)."""
        blocks, eighths, _ = self.codes.shape
        bytes_ = self.codes.reshape(blocks, eighths, _BLOCK, 4)
        pairs = np.concatenate([bytes_ & 15, bytes_ >> 4], axis=3)
        codes = pairs.transpose(0, 2, 1, 3).reshape(blocks, _BLOCK, -1, self.group)
        scales = self.scales.transpose(0, 2, 1)[..., None]
        offsets = self.offsets.transpose(0, 2, 1)[..., None]
        weights = codes.astype(np.float32) * scales - offsets
        rows = weights.reshape(blocks * _BLOCK, self.inputs)[: self.outputs]
        return np.asarray(rows, np.float32)


def pack_q4(codes: ByteArray, scales: FloatArray, zeros: FloatArray | float = 8.0) -> Q4Weight:
    """Pack the codes of a quantised weight matrix.

    Args:
        codes: uint8 (outputs, inputs), 0 to 15.
        scales: float32 (outputs, inputs / group); the group follows from the shape and must be
            a multiple of 8.
        zeros: float32 of the same shape, or one number: the code that means 0.

    Raises:
        TypeError: codes are not uint8, or scales or zeros not float32.
        ValueError: shapes do not fit, a code is above 15, or a scale or zero is not finite.
    """
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
    if codes.max() > 15:
        raise ValueError(f"codes must be at most 15, got {codes.max()}")
    if isinstance(zeros, np.ndarray) and zeros.dtype != np.float32:
        raise TypeError(f"zeros must be float32, got {zeros.dtype}")
    if isinstance(zeros, np.ndarray) and zeros.shape != scales.shape:
        raise ValueError(f"zeros must have shape {scales.shape}, got {zeros.shape}")
    offsets = (scales * zeros).astype(np.float32)
    if not (np.isfinite(scales).all() and np.isfinite(offsets).all()):
        raise ValueError("scales and zeros must be finite")
    blocks = -(-outputs // _BLOCK)
    missing = ((0, blocks * _BLOCK - outputs), (0, 0))
    eights = np.pad(codes, missing).reshape(blocks, _BLOCK, inputs // 8, 2, 4)
    pairs = eights.transpose(0, 2, 1, 3, 4)
    packed = pairs[:, :, :, 0] | (pairs[:, :, :, 1] << 4)
    return Q4Weight(
        codes=np.ascontiguousarray(packed).reshape(blocks, inputs // 8, 64),
        scales=_blocked(np.pad(scales, missing), blocks),
        offsets=_blocked(np.pad(offsets, missing), blocks),
        outputs=outputs,
        group=inputs // groups,
    )


def quantize_q4(weight: FloatArray, group: int = 128) -> Q4Weight:
    """Quantise a weight matrix to 4 bits and pack it.

    Args, Returns, Raises: as ``q4_codes``, packed by ``pack_q4``. Each weight differs from the
    original by at most half its group's scale.
    """
    return pack_q4(*q4_codes(weight, group))


def q4_codes(weight: FloatArray, group: int = 128) -> tuple[ByteArray, FloatArray, FloatArray]:
    """Quantise a weight matrix to 4 bits, each group by its smallest and largest element.

    Args:
        weight: float32 (outputs, inputs), finite.
        group: inputs that share a scale; a multiple of 8 that divides the inputs.

    Returns:
        Codes uint8 (outputs, inputs), scales and zero points float32 (outputs, inputs / group).
        A scale is its group's range (with 0) divided by 15; zero points are 0 to 15 and not whole:
        rounding them, as AWQ's format has to, costs most of what a small model can lose.

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
    groups = weight.reshape(outputs, -1, group)
    low = np.minimum(groups.min(axis=2), 0.0)
    high = np.maximum(groups.max(axis=2), 0.0)
    scales = ((high - low) / np.float32(15.0)).astype(np.float32)
    safe = np.where(scales > 0.0, scales, np.float32(1.0))
    zeros = (-low / safe).astype(np.float32)
    codes = np.clip(np.rint(groups / safe[..., None] + zeros[..., None]), 0, 15)
    return codes.astype(np.uint8).reshape(outputs, inputs), scales, zeros


def _blocked(values: FloatArray, blocks: int) -> FloatArray:
    groups = values.shape[1]
    return np.ascontiguousarray(values.reshape(blocks, _BLOCK, groups).transpose(0, 2, 1))


def _described(value: object) -> str:
    return str(value.dtype) if isinstance(value, np.ndarray) else type(value).__name__
