"""What an imported folder says of itself: where it comes from, and the checksum of every file.

The receipt is written last, before the folder gets its name: a folder with one is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

NAME: Final = "livemind-import.json"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Receipt:
    """One import.

    Attributes:
        source: as it was asked for: a file name or ``package:NAME==VERSION``.
        gguf: name of the GGUF file.
        gguf_sha256: its checksum.
        license: what the package or the file says, empty if nothing.
        architecture: the model class that config.json names.
        parameters: number of them.
        dtype: of the stored weights.
        system: system message that the chat template was given for conversations without one.
        adapter_sha256: of the weights of the LoRA adapter that was added, empty if none.
        made_with: versions of what converted it.
        warnings: what was found and is not as it should be.
        files: name → {"sha256", "bytes"}.
    """

    source: str
    gguf: str
    gguf_sha256: str
    license: str
    architecture: str
    parameters: int
    dtype: str
    made_with: Mapping[str, str]
    system: str = ""
    adapter_sha256: str = ""
    warnings: tuple[str, ...] = ()
    files: Mapping[str, Mapping[str, str | int]] = field(default_factory=dict)


def write_receipt(folder: Path, receipt: Receipt) -> None:
    """Write the receipt of a folder whose files are all there."""
    (folder / NAME).write_text(json.dumps(asdict(receipt), indent=2) + "\n", "utf-8")


def read_receipt(folder: Path) -> Receipt | None:
    """Return the receipt of an imported folder, None if it has none or a file has another size."""
    try:
        values = json.loads((folder / NAME).read_text("utf-8"))
        receipt = Receipt(**{**values, "warnings": tuple(values["warnings"])})
        sizes = {name: entry["bytes"] for name, entry in receipt.files.items()}
        whole = all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return receipt if whole else None


def is_imported(folder: Path) -> bool:
    """Whether an import made this folder, whole or damaged since."""
    return (folder / NAME).is_file()


def checksums(folder: Path) -> dict[str, dict[str, str | int]]:
    """Return the checksum and size of every file below a folder, by its relative name."""
    return {
        path.relative_to(folder).as_posix(): {
            "sha256": file_sha256(path),
            "bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def file_sha256(path: Path, each: Callable[[int], None] = lambda count: None) -> str:
    """Return a file's checksum; ``each`` gets the number of bytes read so far."""
    digest, count = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
            count += len(block)
            each(count)
    return digest.hexdigest()
