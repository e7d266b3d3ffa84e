"""The header of a GGUF file: metadata and tensors, without reading them.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; block sizes of the tensor types
from ggml's ``ggml-common.h``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .safetensors_header import BadWeights, Tensor

LARGEST_TEXT, LARGEST_COUNT = 1 << 24, 1 << 24
# type id → (name, elements of a block, bytes of a block)
TENSOR_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2),
    26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
    10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING, _ARRAY, _ALIGNMENT = 8, 9, 32


@dataclass(frozen=True, slots=True)
class Gguf:
    """Metadata (arrays as their length only), tensors, and where the last one ends in the file."""

    metadata: dict[str, object]
    tensors: list[Tensor]
    end: int


def read_gguf(path: Path) -> Gguf:
    """Return what a GGUF file says of itself.

    Raises:
        BadWeights: not a GGUF file of version 2 or 3, or cut off.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        try:
            magic, version = file.read(4), _scalar(file, "<I")
            if magic != b"GGUF" or version not in (2, 3):
                raise BadWeights(f"{path.name}: not a GGUF file of version 2 or 3")
            tensor_count, pairs = _count(file), _count(file)
            metadata = {}
            for _ in range(pairs):
                key = _text(file)
                metadata[key] = _value(file, int(_scalar(file, "<I")))
            found = [_tensor(file) for _ in range(tensor_count)]
            step = metadata.get("general.alignment", _ALIGNMENT)
            step = step if isinstance(step, int) and step > 0 else _ALIGNMENT
            begin = -(-file.tell() // step) * step
            end = begin + max((offset + tensor.size for tensor, offset in found), default=0)
            return Gguf(metadata, [tensor for tensor, _ in found], end)
        except (struct.error, UnicodeDecodeError, OverflowError):
            raise BadWeights(f"{path.name}: its GGUF header is damaged or cut off") from None


def _scalar(file: BinaryIO, form: str) -> int | float | bool:
    value: int | float | bool = struct.unpack(form, file.read(struct.calcsize(form)))[0]
    return value


def _count(file: BinaryIO) -> int:
    count = int(_scalar(file, "<Q"))
    if count > LARGEST_COUNT:
        raise OverflowError
    return count


def _text(file: BinaryIO) -> str:
    length = int(_scalar(file, "<Q"))
    if length > LARGEST_TEXT:
        raise OverflowError
    raw = file.read(length)
    if len(raw) < length:
        raise OverflowError
    return raw.decode()


def _value(file: BinaryIO, kind: int) -> object:
    if kind == _STRING:
        return _text(file)
    if kind != _ARRAY:
        if kind not in _SCALARS:
            raise OverflowError
        return _scalar(file, _SCALARS[kind])
    item, count = int(_scalar(file, "<I")), _count(file)
    if item in _SCALARS:
        file.seek(struct.calcsize(_SCALARS[item]) * count, 1)
    else:
        for _ in range(count):
            _value(file, item)
    return count


def _tensor(file: BinaryIO) -> tuple[Tensor, int]:
    """Return a tensor and its offset behind the header."""
    name, dimensions = _text(file), int(_scalar(file, "<I"))
    elements = 1
    for _ in range(min(dimensions, 8)):
        elements *= int(_scalar(file, "<Q"))
    kind, offset = int(_scalar(file, "<I")), int(_scalar(file, "<Q"))
    known = TENSOR_TYPES.get(kind)
    if known is None:
        raise OverflowError
    label, block, size = known
    return Tensor(name, label, elements, -(-elements // block) * size), offset
