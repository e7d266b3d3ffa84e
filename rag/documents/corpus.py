"""A folder of markdown and text files as passages.

Owns which files are read and what makes the folder unusable. Passages are cut as those of any
document (``parsing.py``, ``chunking.py``), at most ``MAX_WORDS`` words each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .blocks import EmptyFile, UnreadableFile
from .chunking import chunk, digest
from .parsing import parse

MAX_WORDS = 200
MAX_FILE_BYTES = 2 * 1024 * 1024
MAX_FILES = 10_000
SUFFIXES = (".md", ".txt")


class CorpusError(Exception):
    """The folder or one of its files cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class CorpusPassage:
    """A passage as it is indexed. ``id`` depends on source and text alone."""

    id: str
    source: str
    text: str
    title: str = ""


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
        try:
            for passage in split(source, _read(path, source, root)):
                passages.setdefault(passage.id, passage)
        except UnreadableFile as exc:
            raise CorpusError(str(exc)) from exc
    if not passages:
        raise CorpusError(f"{folder}: no text in {' or '.join(SUFFIXES)} files")
    return Corpus(tuple(passages.values()), digest("\0".join(passages), 8))


def split(source: str, content: bytes) -> Iterator[CorpusPassage]:
    """Yield the passages of one file, which is read as Markdown; none of one without text.

    Args:
        source: the file's name as users see it.
        content: UTF-8 text.

    Raises:
        UnreadableFile: not UTF-8 text.
    """
    try:
        blocks = parse(source, content, "md")
    except EmptyFile:
        return
    for piece in chunk(source, blocks, _count_words, MAX_WORDS):
        yield CorpusPassage(piece.id, source, piece.text, piece.title)


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


def _read(path: Path, source: str, root: Path) -> bytes:
    if not path.resolve().is_relative_to(root):
        raise CorpusError(f"{source}: a link that leads out of the folder")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise CorpusError(f"{source}: {exc.strerror}") from exc
    if len(content) > MAX_FILE_BYTES:
        raise CorpusError(f"{source}: larger than {MAX_FILE_BYTES} bytes")
    return content


def _count_words(text: str) -> int:
    return len(text.split())
