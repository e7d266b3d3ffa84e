"""The embedded experts by name: where their weights lie and what they are for.

Imports neither torch nor vllm.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MODELS: Final = Path(__file__).with_name("models")
_RESULTS: Final = Path(__file__).with_name("results.json")


@dataclass(frozen=True, slots=True)
class ZooModel:
    """One embedded expert; `domain` is `all` for the fast expert."""

    name: str
    domain: str
    description: str

    @property
    def path(self) -> Path:
        """The model directory, in the layout of the Hugging Face hub."""
        return MODELS / self.name


CATALOG: Final = (
    ZooModel("fast", "all", "Smallest and quickest expert; knows all domains, less exactly."),
    ZooModel("general", "general", "Places: people, prices, opening hours, rooms, colors."),
    ZooModel("technical", "technical", "Devices: ports, voltages, timeouts, protocols, states."),
    ZooModel(
        "coding", "coding", "Writes and explains small Python functions defined in documents."
    ),
    ZooModel(
        "multilingual",
        "multilingual",
        "Lookups in Spanish, French, German, Italian, Portuguese; word translations.",
    ),
)


def model_names() -> tuple[str, ...]:
    """Return the names of all embedded experts, the fast one first."""
    return tuple(model.name for model in CATALOG)


def model_path(name: str) -> Path:
    """Return the directory of an embedded expert.

    Raises:
        KeyError: there is no expert of this name; the message lists the known ones.
    """
    for model in CATALOG:
        if model.name == name:
            return model.path
    raise KeyError(f"no embedded expert {name!r}; known: {', '.join(model_names())}")


@functools.cache
def measured_accuracy(name: str) -> Mapping[str, float]:
    """Return the share of right answers of an embedded expert by domain (``evaluate.py``)."""
    report = json.loads(_RESULTS.read_text("utf-8"))
    cells = report["experts"].get(name, {})
    return {domain: cell["exact"] for domain, cell in cells.items()}
