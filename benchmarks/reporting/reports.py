"""Reads what ``--json`` wrote, and refuses what it did not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from ..bench import UsageError
from ..figures.answer import Json
from ..harness.report import SCHEMA

MAX_BYTES = 512 * 2**20
_PARTS = {"name": str, "machine": dict, "versions": dict, "config": dict, "summary": dict}


@dataclass(frozen=True, slots=True)
class Report:
    """One benchmark's report; ``content`` is the whole JSON object."""

    file: Path
    content: Json

    @property
    def name(self) -> str:
        """Which benchmark."""
        return str(self.content["name"])

    @property
    def summary(self) -> dict[str, float | None]:
        """The flat summary."""
        found: dict[str, float | None] = self.content["summary"]
        return found


def read(file: Path) -> Report:
    """Return a report.

    Raises:
        UsageError: no such file, no JSON, another schema, or a part is missing or of another type;
            the message names file and part.
    """
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise UsageError(f"{file}: {size} bytes, need <= {MAX_BYTES}")
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise UsageError(f"{file}: {exc.strerror}") from None
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{file}: not JSON: {exc}") from None
    return checked(file, content)


def checked(file: Path, content: object) -> Report:
    """Return the report if it is one.

    Raises:
        UsageError: see ``read``.
    """
    if not isinstance(content, dict):
        raise UsageError(f"{file}: need a JSON object")
    schema = content.get("schema")
    if schema != SCHEMA:
        raise UsageError(f"{file}: schema: got {schema!r}, need {SCHEMA!r}")
    for part, kind in _PARTS.items():
        if not isinstance(content.get(part), kind):
            raise UsageError(f"{file}: {part}: missing or not a {kind.__name__}")
    for key, value in content["summary"].items():
        if value is not None and not _is_number(value):
            raise UsageError(f"{file}: summary.{key}: got {value!r}, need a number or null")
    return Report(file, content)


def doubts(content: Json, who: str) -> Iterator[str]:
    """Yield what makes the numbers of ``who`` doubtful: how it ended, its source, its machine."""
    if content.get("failure"):
        yield f"{who} could not go on: {content['failure']}"
    if content.get("interrupted"):
        yield f"{who} was interrupted: it holds what was measured until then"
    if str(content.get("commit") or "").endswith("+changes"):
        yield f"{who} ran a source tree with uncommitted changes"
    load, cores = content["machine"].get("load_average_1m"), content["machine"].get("cores")
    if load and cores and load > 0.5 * cores:
        yield f"{who} began on a busy machine: load {load:.1f} on {cores} cores"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
