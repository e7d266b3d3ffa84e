"""Tables and records as blocks: CSV, JSON, JSON Lines. Each record can be read alone."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

from .blocks import Block, UnreadableFile, squeezed
from .html import named_row

MAX_DEPTH = 32
MAX_FIELD_CHARS = 1 << 20


def read_csv(text: str) -> Iterator[Block]:
    """Yield a block for each row, its cells named by the first one; finds the delimiter."""
    csv.field_size_limit(MAX_FIELD_CHARS)
    try:
        dialect: type[csv.Dialect] = csv.Sniffer().sniff(text[:8192], ",;\t|")
    except csv.Error:
        dialect = csv.excel
    names: list[str] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), dialect):
            cells = [squeezed(cell) for cell in row]
            if not any(cells):
                continue
            if names:
                yield Block((), named_row(names, cells))
            names = names or cells
    except csv.Error as exc:
        raise UnreadableFile(f"not CSV ({exc})") from None


def read_json(text: str) -> Iterator[Block]:
    """Yield a block for each element of a list, else for each member; nested ones below it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        where = f", line {exc.lineno}" if isinstance(exc, json.JSONDecodeError) else ""
        raise UnreadableFile(f"not JSON{where}") from None
    if isinstance(value, list):
        for one in value:
            yield Block((), "\n".join(_lines(one)))
    elif isinstance(value, dict):
        for name, member in value.items():
            yield Block((squeezed(name),), "\n".join(_lines(member)))
    else:
        yield Block((), "\n".join(_lines(value)))


def read_json_lines(text: str) -> Iterator[Block]:
    """Yield a block for each line."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            raise UnreadableFile(f"not JSON Lines (line {number})") from None
        yield Block((), "\n".join(_lines(value)))


def _lines(value: object, path: str = "", depth: int = 0) -> Iterator[str]:
    """Yield ``path: value`` for each value inside that is no list or object."""
    if depth > MAX_DEPTH:
        raise UnreadableFile(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _lines(member, f"{path}.{name}" if path else str(name), depth + 1)
    elif isinstance(value, list):
        if all(isinstance(one, str | int | float) for one in value):
            yield from _lines(", ".join(map(_shown, value)), path, depth + 1)
            return
        for one in value:
            yield from _lines(one, path, depth + 1)
    elif value is not None and (text := _shown(value)):
        yield f"{path}: {text}" if path else text


def _shown(value: object) -> str:
    return str(value).strip() if isinstance(value, str) else json.dumps(value)
