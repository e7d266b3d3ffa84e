"""Reading a configuration file, JSON with ``//`` and ``/* */`` comments; how values are shown.

Owns the file format and how keys and values look in ``file: path.to[0].key: got VALUE, need …``.
Knows no key and no default: those are in ``sections.py`` and ``experts.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ..errors import ConfigError

Location = Sequence[str | int]

# A string, a comment, or the start of a comment that never ends; strings first, so that a "//"
# inside one is text.
_TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/|/\*', re.DOTALL)
_SHOWN_CHARS = 60


def read_json(path: Path) -> object:
    """Return the file's value.

    Raises:
        ConfigError: the file cannot be read or is not JSON with comments; the message names line
            and column. Duplicate keys, trailing commas, NaN and Infinity are refused.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: not UTF-8 at byte {exc.start}") from exc
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror or type(exc).__name__}") from exc
    plain = _blank_comments(path, text)
    try:
        return json.loads(plain, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except json.JSONDecodeError as exc:
        raise ConfigError(f"{path}:{exc.lineno}:{exc.colno}: {_explain(plain, exc)}") from exc
    except RecursionError as exc:
        raise ConfigError(f"{path}: nested too deeply") from exc
    except ValueError as exc:
        raise ConfigError(f"{path}: {exc}") from exc


def path_text(location: Location) -> str:
    """Return ``experts[2].dtype`` for ``("experts", 2, "dtype")``; empty for the whole file."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def value_text(value: object) -> str:
    """Return a value as a message shows it: JSON, shortened; of lists and objects only the kind."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + '…"'


def _blank_comments(path: Path, text: str) -> str:
    """Replace comments by blanks of the same shape, so that line and column stay right."""

    def blank(match: re.Match[str]) -> str:
        token = match.group()
        if token == "/*":
            before = text[: match.start()]
            line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
            raise ConfigError(f"{path}:{line}:{column}: comment is never closed")
        return token if token.startswith('"') else re.sub(r"[^\n]", " ", token)

    return _TOKEN.sub(blank, text)


def _explain(text: str, exc: json.JSONDecodeError) -> str:
    """Say what is wrong in words of the file instead of the parser's."""
    before, here = text[: exc.pos].rstrip(), text[exc.pos :].lstrip()[:1]
    if "trailing comma" in exc.msg or (before.endswith(",") and here in ("}", "]")):
        return "a trailing comma is not allowed"
    if not here:
        return "the file ends too early" if before else "the file is empty"
    if exc.msg.startswith("Extra data"):
        return "text after the end of the configuration"
    return exc.msg


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    seen: dict[str, object] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"duplicate key {json.dumps(key)} in one object")
        seen[key] = value
    return seen


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"got {name}, need a finite number")
