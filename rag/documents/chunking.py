"""Blocks as passages: what an expert reads and the index holds.

Owns the size of passages and their names. A passage is the headings on its first line and the text
below; it never crosses a heading. The same document gives the same passages, byte for byte.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ..words import count_unspaced
from .blocks import Block

CountTokens = Callable[[str], int]

MAX_TOKENS = 220
HEADING_CHARS = 200

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])(?=\S)")  # noqa: RUF001
_UNSPACED_JOINT = re.compile(r"(?<=[。！？]) ")  # noqa: RUF001
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage before it is stored. ``id`` depends on the document's id and the text alone.

    ``title``: the headings that its text begins with, empty without any.
    """

    id: str
    text: str
    tokens: int
    hash: str
    title: str = ""


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has, where no tokenizer is at hand.

    1.3 per word, and one per character of a script without blanks.
    """
    words = _WORD.findall(text)
    unspaced = 0 if text.isascii() else sum(map(count_unspaced, words))
    return -(-13 * len(words) // 10) + unspaced


def digest(content: bytes | str, size: int = 16) -> str:
    """Return a content hash (BLAKE2b, ``2 * size`` hex digits)."""
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return hashlib.blake2b(raw, digest_size=size).hexdigest()


def chunk(
    document_id: str,
    blocks: Iterable[Block],
    count: CountTokens = estimate_tokens,
    max_tokens: int = MAX_TOKENS,
) -> list[Chunk]:
    """Return the passages of a document in reading order, none twice.

    Args:
        document_id: part of the passages' ids.
        blocks: of the document.
        count: the experts' tokenizer: tokens of a text.
        max_tokens: of a passage without its headings. A single word may be longer.
    """
    found: dict[str, Chunk] = {}
    for headings, body in _pack(blocks, count, max_tokens):
        title = " > ".join(headings)[-HEADING_CHARS:]
        text = f"{title}\n{body}" if title else body
        identity = "p_" + digest(f"{document_id}\0{text}", 8)
        found.setdefault(identity, Chunk(identity, text, count(text), digest(text), title))
    return list(found.values())


def _pack(
    blocks: Iterable[Block], count: CountTokens, limit: int
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Fill passages with whole blocks of the same heading."""
    pieces: list[str] = []
    used, path = 0, ()  # type: tuple[int, tuple[str, ...]]
    for block in blocks:
        for piece in _pieces(block, count, limit):
            size = count(piece)
            if pieces and (block.headings != path or used + size > limit):
                yield path, "\n".join(pieces)
                pieces, used = [], 0
            path = block.headings
            pieces.append(piece)
            used += size
    if pieces:
        yield path, "\n".join(pieces)


def _pieces(block: Block, count: CountTokens, limit: int) -> Iterator[str]:
    """Cut a block that is too long: code at lines, text at sentences, either at words at last."""
    if count(block.text) <= limit:
        yield block.text
        return
    code = block.kind == "code"
    parts = block.text.splitlines() if code else _SENTENCE_END.split(block.text)
    for piece in _join(parts, "\n" if code else " ", count, limit):
        yield piece if code else _UNSPACED_JOINT.sub("", piece)


def _join(parts: Iterable[str], glue: str, count: CountTokens, limit: int) -> Iterator[str]:
    piece: list[str] = []
    used = 0
    for part in parts:
        size = count(part)
        if size > limit and glue != "":
            if piece:
                yield glue.join(piece)
                piece, used = [], 0
            words = part.split(" ")
            finer = words if len(words) > 1 else [part[i : i + 64] for i in range(0, len(part), 64)]
            yield from _join(finer, " " if len(words) > 1 else "", count, limit)
            continue
        if piece and used + size > limit:
            yield glue.join(piece)
            piece, used = [], 0
        piece.append(part)
        used += size
    if piece:
        yield glue.join(piece)
