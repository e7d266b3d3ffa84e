"""A user's file of JSON objects, one a line: read whole, each line held against its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ..bench import UsageError

MAX_LINES = 100_000

Model = TypeVar("Model", bound=BaseModel)


def read_lines(option: str, file: Path, model: type[Model], what: str) -> list[tuple[str, Model]]:
    """Return each line with its place, ``FILE:NUMBER``; blank lines are left out.

    Raises:
        UsageError: naming option or line and field; or there is no ``what`` in the file.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{option} {file}: {exc}") from None
    if len(lines) > MAX_LINES:
        raise UsageError(f"{option} {file}: {len(lines)} lines, the limit is {MAX_LINES}")
    places = [(f"{file}:{number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    if not places:
        raise UsageError(f"{option} {file}: no {what} in it")
    return [(where, _checked(line, where, model)) for where, line in places]


def _checked(line: str, where: str, model: type[Model]) -> Model:
    try:
        return model.model_validate(json.loads(line))
    except json.JSONDecodeError as exc:
        raise UsageError(f"{where}: not JSON: {exc.msg} (column {exc.colno})") from None
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "line"
        raise UsageError(f"{where}: {field}: {first['msg']}") from None
