"""The header of a safetensors file: which tensors, without reading them.

Format: 8 bytes length (little-endian), then that much JSON, then the data.
Source: https://github.com/huggingface/safetensors, README, "Format".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# safetensors::tensor::MAX_HEADER_SIZE
LARGEST_HEADER = 100_000_000
ELEMENT_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
}  # fmt: skip


class BadWeights(ValueError):
    """A weight file is damaged or incomplete; the message says which and how."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Name, element type (upper case, as safetensors calls it), elements and bytes of one."""

    name: str
    dtype: str
    elements: int
    size: int


def read_safetensors(path: Path) -> list[Tensor]:
    """Return the tensors of a file.

    Raises:
        BadWeights: not a safetensors file, or shorter than its header says.
        OSError: it cannot be read.
    """
    length = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        size = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or size > LARGEST_HEADER or 8 + size > length:
            hint = "; a Git LFS pointer?" if prefix.startswith(b"version ") else ""
            raise BadWeights(f"{path.name}: no safetensors header{hint}")
        try:
            header = json.loads(file.read(size))
        except ValueError:
            raise BadWeights(f"{path.name}: its header is not JSON") from None
    if not isinstance(header, dict):
        raise BadWeights(f"{path.name}: its header is not an object")
    header.pop("__metadata__", None)
    try:
        tensors = [_tensor(name, entry) for name, entry in header.items()]
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (KeyError, TypeError, ValueError, IndexError):
        raise BadWeights(f"{path.name}: its header does not describe tensors") from None
    if 8 + size + end > length:
        missing = 8 + size + end - length
        raise BadWeights(f"{path.name}: {missing:,} bytes are missing at its end")
    return tensors


def _tensor(name: str, entry: dict[str, Any]) -> Tensor:
    elements = 1
    for extent in entry["shape"]:
        elements *= int(extent)
    begin, end = entry["data_offsets"]
    return Tensor(name, str(entry["dtype"]), elements, int(end) - int(begin))
