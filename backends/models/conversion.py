"""One conversion: what the file's header says beforehand, and the converter's process.

The converter (``convert.py``) runs in a process of its own; this follows its progress bars.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

from ..doctor.gguf_header import Gguf, read_gguf
from ..doctor.safetensors_header import BadWeights
from ..machine.memory import free_memory
from .errors import ModelImportError

ELEMENT_BYTES: Final = {"bfloat16": 2, "float16": 2, "float32": 4}
NEEDED: Final = ("torch", "transformers", "accelerate", "gguf")
_BAR = re.compile(r"\|\s*(\d+)/(\d+)\s*\[")


@dataclass(frozen=True, slots=True)
class Conversion:
    """How one file is converted.

    Attributes:
        dtype: of the stored weights.
        sampling: what generation_config.json says where the file itself says nothing.
        system: system message of conversations without one, empty = the chat template's own.
        adapter: folder of a checked LoRA adapter that is added to the weights, empty = none.
    """

    dtype: str
    sampling: Mapping[str, float]
    system: str = ""
    adapter: str = ""

    def as_json(self) -> str:
        """Return it as the converter reads it: the keywords of ``convert.convert``."""
        return json.dumps({**asdict(self), "sampling": dict(self.sampling)})


class Report(Protocol):
    """Is told how far an import is."""

    @property
    def terminal(self) -> bool:
        """Whether pip may draw its own progress bar."""

    def stage(self, text: str, total: int | None = None) -> None:
        """A new piece of work begins; ``total`` is its size, in units of its own."""

    def progress(self, done: int) -> None:
        """So much of it is done."""


def checked_header(gguf: Path) -> Gguf:
    """Return the header of a file that is one whole model.

    Raises:
        ModelImportError: it is damaged, cut off, one of several, or no model.
    """
    try:
        header = read_gguf(gguf)
    except BadWeights as exc:
        raise ModelImportError(str(exc)) from None
    parts = header.metadata.get("split.count")
    if isinstance(parts, int) and parts > 1:
        raise ModelImportError(
            f"{gguf.name}: one of {parts} files of a model; join them first: "
            "llama-gguf-split --merge FIRST.gguf WHOLE.gguf"
        )
    kind = header.metadata.get("general.type", "model")
    if kind != "model":
        raise ModelImportError(f'{gguf.name}: is of the type "{kind}", need a model')
    size = gguf.stat().st_size
    if not header.tensors or header.end > size:
        raise ModelImportError(
            f"{gguf.name}: cut off: its tensors end at byte {header.end:,}, the file at {size:,}"
        )
    return header


def stored_dtype(header: Gguf) -> str:
    """Return the format of a file whose matrices are floats, else bfloat16."""
    largest = max(header.tensors, key=lambda tensor: tensor.elements)
    return {"F16": "float16", "F32": "float32"}.get(largest.dtype, "bfloat16")


def run_converter(gguf: Path, folder: Path, how: Conversion, report: Report) -> dict[str, Any]:
    """Fill a folder with the model; return what the converter says of it.

    Raises:
        ModelImportError: there is too little memory, a library is missing, or transformers cannot
            read the file.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelImportError(f"converting needs {', '.join(missing)}: install the cpu extra")
    words = [str(gguf), str(folder), how.as_json()]
    program = [sys.executable, "-m", f"{__package__}.convert", *words]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            last = _follow(child.stderr, report)
            text = child.stdout.read().decode(errors="replace").strip()
            child.wait()
        finally:
            if child.poll() is None:
                child.kill()
    try:
        made: dict[str, Any] = json.loads(text.rpartition("\n")[2])
    except ValueError:
        raise ModelImportError(
            f"the converter ended with status {child.returncode}: {last or 'no message'}"
        ) from None
    if "error" in made:
        raise ModelImportError(f"{gguf.name}: transformers cannot convert it: {made['error']}")
    return made


def enough_memory(elements: int, dtype: str, name: str) -> None:
    """Refuse a model that does not fit while it is converted.

    Raises:
        ModelImportError: says how much it needs.
    """
    needed, free = elements * ELEMENT_BYTES[dtype], free_memory(1.0)
    if free is not None and needed > free:
        raise ModelImportError(
            f"{name}: {elements / 1e9:.1f} billion parameters in {dtype} need {needed / 1e9:.1f} GB"
            f" of memory while they are converted, {free / 1e9:.1f} GB are free"
        )


def _follow(stream: IO[bytes], report: Report) -> str:
    """Pass on the progress bars of a program; return its last other line."""
    last, line, total = "", bytearray(), 1
    while chunk := stream.read(1):
        if chunk not in b"\r\n":
            line += chunk
            continue
        text = line.decode(errors="replace").strip()
        line.clear()
        bar = _BAR.search(text)
        if bar is None:
            last = text or last
        elif int(bar[2]) > total:  # the bar that counts tensors, not the one of files
            total = int(bar[2])
            report.stage("converting tensors", total)
        elif int(bar[2]) == total > 1:
            report.progress(int(bar[1]))
    return last
