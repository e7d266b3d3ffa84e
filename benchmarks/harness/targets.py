"""What a run talks to. A value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..workload.arms import DoorName
from .doors import Door
from .library import Library


@dataclass(frozen=True, slots=True)
class Targets:
    """What a run talks to: a door per name that its arms use, and the corpus of retrieving arms."""

    doors: Mapping[DoorName, Door]
    library: Library | None = None
