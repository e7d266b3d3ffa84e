"""Where a model comes from, and where its folder lies once it is imported.

``package:NAME==VERSION`` is a wheel of the package index that has a GGUF file inside. Pure but for
environment variables; imports no model library.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGE_PREFIX: Final = "package:"
_PINNED = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?)==(?P<version>[0-9][A-Za-z0-9.!+_-]{0,40})"
)


@dataclass(frozen=True, slots=True)
class Package:
    """A package in one version; ``name`` as the index normalises it (PEP 503)."""

    name: str
    version: str

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.name}=={self.version}"

    @property
    def model_path(self) -> str:
        """As a configuration names it."""
        return f"{PACKAGE_PREFIX}{self.requirement}"

    @property
    def folder(self) -> Path:
        """Where its model lies once it is imported."""
        return models_root() / f"{self.name}-{self.version}"


def parse_package(text: str) -> Package:
    """Return the package that ``[package:]NAME==VERSION`` names.

    Raises:
        ValueError: it is not of that form; the message says so.
    """
    match = _PINNED.fullmatch(text.removeprefix(PACKAGE_PREFIX))
    if match is None:
        raise ValueError(f'got "{text}", need NAME==VERSION: a package in one version')
    return Package(re.sub(r"[-_.]+", "-", match["name"]).lower(), match["version"])


def package_of(folder: Path) -> Package | None:
    """Return the package whose model has its place in this folder, None if it is another's."""
    name, dash, version = folder.name.rpartition("-")
    try:
        package = parse_package(f"{name}=={version}")
    except ValueError:
        return None
    return package if dash and package.folder == folder else None


def models_root() -> Path:
    """Return the folder of imported models: LIVEMIND_MODELS, or one of the virtual environment.

    Outside of a virtual environment it is the user's cache folder.
    """
    chosen = os.environ.get("LIVEMIND_MODELS")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix) / "share" / "livemind" / "models"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "livemind" / "models"
