"""Markdown as blocks, and its front matter as metadata."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest

from .blocks import Block, Kind, squeezed

MetaValue = str | int | float | bool

MAX_KEYS = 16
MAX_CHARS = 512
MAX_FRONT_CHARS = 16_384
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}")
_FRONT = re.compile(r"---[ \t]*\r?\n(.*?)(?:\r?\n)?^(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.S | re.M)


def read_markdown(text: str) -> Iterator[Block]:
    """Yield the blocks; front matter is none of them."""
    from markdown_it import MarkdownIt

    body, _ = _parted(text)
    lines = body.splitlines()
    path: list[tuple[int, str]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    for token, after in zip_longest(tokens, tokens[1:]):
        if token.type == "heading_open" and token.level == 0 and after is not None:
            depth = int(token.tag[1])
            path = [entry for entry in path if entry[0] < depth] + [(depth, after.content)]
        elif token.level == 0 and token.map is not None and token.type != "heading_open":
            body_text = "\n".join(lines[token.map[0] : token.map[1]]).rstrip()
            kind: Kind = "code" if token.type in ("fence", "code_block") else "text"
            if token.type == "paragraph_open":
                body_text = squeezed(body_text)
            yield Block(tuple(title for _, title in path), body_text, kind)


def front_matter(text: str) -> dict[str, MetaValue]:
    """Return what the front matter says, in the types of metadata; what does not fit is left out.

    Lists are joined by commas, dates written as ISO 8601; 16 keys and 512 characters count.
    """
    _, front = _parted(text)
    found: dict[str, MetaValue] = {}
    for key, value in front.items():
        fitted = _fitted(value)
        if isinstance(key, str) and _KEY.fullmatch(key) and fitted is not None:
            found[key] = fitted
        if len(found) == MAX_KEYS:
            break
    return found


def _parted(text: str) -> tuple[str, Mapping[object, object]]:
    """Return the text behind the front matter, and that; a rule of dashes is none."""
    import yaml

    match = _FRONT.match(text[:MAX_FRONT_CHARS])
    if match is None:
        return text, {}
    try:
        front = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError):
        return text, {}
    if front is None:
        return text[match.end() :], {}
    return (text[match.end() :], front) if isinstance(front, dict) else (text, {})


def _fitted(value: object) -> MetaValue | None:
    if isinstance(value, bool | int | float):
        return value if value == value and abs(value) < 2**63 else None
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        parts = [str(one) for one in value if isinstance(one, str | int | float)]
        value = ", ".join(parts)
    return value[:MAX_CHARS] if isinstance(value, str) and value else None
