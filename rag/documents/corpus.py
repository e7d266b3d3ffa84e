"""A folder of markdown and text files as passages.

Owns reading, splitting and naming passages. A passage is what an expert reads: the section's
heading on the first line, its text below, at most ``MAX_WORDS`` words. Embedding and search are
elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_WORDS = 200
MAX_FILE_BYTES = 2 * 1024 * 1024
MAX_FILES = 10_000
SUFFIXES = (".md", ".txt")

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_OWN_LINE = re.compile(r"\s*([-*+|>#]|\d+[.)])|\s{4}")


class CorpusError(Exception):
    """The folder or one of its files cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a file under one heading."""

    heading: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CorpusPassage:
    """A passage as it is indexed. ``id`` depends on source and text alone."""

    id: str
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """Passages in the order of files and text, no duplicates; ``version`` changes with them."""

    passages: tuple[CorpusPassage, ...]
    version: str


def read_corpus(folder: Path) -> Corpus:
    """Read every ``.md`` and ``.txt`` file below ``folder``; hidden files and folders are skipped.

    Raises:
        CorpusError: no such folder, no text in it, more than 10,000 files, or a file that is a link
            out of the folder, larger than 2 MiB or not UTF-8 text.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder")
    root = folder.resolve()
    passages: dict[str, CorpusPassage] = {}
    for path in _files(folder):
        source = path.relative_to(folder).as_posix()
        for passage in split(source, _read(path, source, root)):
            passages.setdefault(passage.id, passage)
    if not passages:
        raise CorpusError(f"{folder}: no text in {' or '.join(SUFFIXES)} files")
    return Corpus(tuple(passages.values()), _digest("\0".join(passages)))


def split(source: str, text: str) -> Iterator[CorpusPassage]:
    """Yield the passages of one file, one or more per section.

    Args:
        source: the file's name as users see it.
        text: the file's content; ``#`` and ``##`` start a section, deeper headings are text.
    """
    for section in _sections(text.splitlines()):
        for body in _pack(section.paragraphs):
            passage = f"{section.heading}\n{body}" if section.heading else body
            identity = _digest(f"{source}\0{passage}")
            yield CorpusPassage(f"p_{identity}", source, passage)


def _files(folder: Path) -> list[Path]:
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() not in SUFFIXES or hidden or path.is_dir():
            continue
        found.append(path)
        if len(found) > MAX_FILES:
            raise CorpusError(f"{folder}: more than {MAX_FILES} files")
    return found


def _read(path: Path, source: str, root: Path) -> str:
    if not path.resolve().is_relative_to(root):
        raise CorpusError(f"{source}: a link that leads out of the folder")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise CorpusError(f"{source}: {exc.strerror}") from exc
    if len(content) > MAX_FILE_BYTES:
        raise CorpusError(f"{source}: larger than {MAX_FILE_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise CorpusError(f"{source}: not UTF-8 text (byte {exc.start})") from exc
    if "\0" in text:
        raise CorpusError(f"{source}: not text (it has NUL bytes)")
    return text


def _sections(lines: Iterable[str]) -> Iterator[Section]:
    heading, fenced = "", False
    body: list[str] = []
    for line in lines:
        if line.lstrip().startswith("```"):
            fenced = not fenced
        if not fenced and re.match(r"##?\s", line):
            yield Section(heading, tuple(_paragraphs(body)))
            heading, body = line.lstrip("#").strip(), []
        else:
            body.append(line)
    yield Section(heading, tuple(_paragraphs(body)))


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """Join wrapped lines; lists, tables, quotes and code keep theirs. A code block is one."""
    paragraph, fenced = "", False
    for line in lines:
        fence = line.lstrip().startswith("```")
        if not line.strip() and not fenced:
            if paragraph:
                yield paragraph
            paragraph = ""
        elif not paragraph:
            paragraph = line.rstrip() if fence or _OWN_LINE.match(line) else line.strip()
        elif fenced or fence or _OWN_LINE.match(line):
            paragraph += f"\n{line.rstrip()}"
        else:
            paragraph += f" {line.strip()}"
        fenced ^= fence
    if paragraph:
        yield paragraph


def _pack(paragraphs: Iterable[str]) -> Iterator[str]:
    """Fill passages with whole paragraphs, up to MAX_WORDS."""
    pieces: list[str] = []
    words = 0
    for piece in (piece for paragraph in paragraphs for piece in _pieces(paragraph)):
        count = len(piece.split())
        if pieces and words + count > MAX_WORDS:
            yield "\n".join(pieces)
            pieces, words = [], 0
        pieces.append(piece)
        words += count
    if pieces:
        yield "\n".join(pieces)


def _pieces(paragraph: str) -> Iterator[str]:
    """Cut a paragraph that is too long at sentence ends, a sentence that is too long at words."""
    if len(paragraph.split()) <= MAX_WORDS:
        yield paragraph
        return
    piece: list[str] = []
    for sentence in _SENTENCE_END.split(paragraph):
        words = sentence.split()
        if piece and len(piece) + len(words) > MAX_WORDS:
            yield " ".join(piece)
            piece = []
        piece += words
        while len(piece) > MAX_WORDS:
            yield " ".join(piece[:MAX_WORDS])
            del piece[:MAX_WORDS]
    if piece:
        yield " ".join(piece)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
