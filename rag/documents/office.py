"""Files that are archives: Word documents (.docx) and books (.epub).

What is inside is bounded before it is unpacked; nothing is fetched, run or written.
"""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from urllib.parse import unquote

from .blocks import Block, UnreadableFile, squeezed
from .html import named_row, read_html

MAX_UNPACKED_BYTES = 256 * 1024 * 1024
MAX_MEMBERS = 10_000


def read_docx(content: bytes) -> Iterator[Block]:
    """Yield paragraphs under their headings, and a block for each row of a table."""
    from docx import Document
    from docx.table import Table

    _bounded(content)
    try:
        document = Document(BytesIO(content))
    except Exception as exc:  # python-docx raises KeyError, ValueError and lxml's own
        raise UnreadableFile(f"not a Word document ({type(exc).__name__})") from None
    path: list[tuple[int, str]] = []
    for part in document.iter_inner_content():
        headings = tuple(title for _, title in path)
        if isinstance(part, Table):
            yield from _table(part, headings)
            continue
        text, style = squeezed(part.text), (part.style.name or "") if part.style else ""
        depth = 0 if style == "Title" else _level(style)
        if depth is not None and text:
            path = [entry for entry in path if entry[0] < depth] + [(depth, text)]
        else:
            yield Block(headings, text)


def _level(style: str) -> int | None:
    word, _, number = style.partition(" ")
    return int(number) if word == "Heading" and number.isdigit() else None


def _table(table: Any, headings: tuple[str, ...]) -> Iterator[Block]:
    names: list[str] = []
    rows = list(table.rows)
    for row in rows:
        cells, inner = [], []
        for cell in row.cells:
            cells.append(squeezed(" ".join(paragraph.text for paragraph in cell.paragraphs)))
            inner += cell.tables
        if not names and len(rows) > 1:
            names = cells
        else:
            yield Block(headings, named_row(names, cells))
        for one in inner:
            yield from _table(one, headings)


def read_epub(content: bytes) -> Iterator[Block]:
    """Yield the blocks of the chapters in the order of reading."""
    _bounded(content)
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            for chapter in _chapters(archive):
                yield from read_html(archive.read(chapter).decode("utf-8", "replace"))
    except (zipfile.BadZipFile, KeyError, IndexError, ValueError, RuntimeError) as exc:
        raise UnreadableFile(f"not a readable EPUB ({type(exc).__name__})") from None


def _chapters(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of the chapters: container.xml names the package, its spine the order."""
    import lxml.etree

    def parsed(member: str) -> Any:
        parser = lxml.etree.XMLParser(resolve_entities=False, no_network=True)
        return lxml.etree.fromstring(archive.read(member), parser)

    try:
        package = parsed("META-INF/container.xml").xpath("//*[local-name()='rootfile']/@full-path")
        folder, tree = posixpath.dirname(package[0]), parsed(package[0])
    except lxml.etree.XMLSyntaxError as exc:
        raise ValueError(str(exc)) from None
    items = {one.get("id"): one.get("href") for one in tree.xpath("//*[local-name()='item']")}
    order = tree.xpath("//*[local-name()='itemref']/@idref")
    return [posixpath.normpath(posixpath.join(folder, unquote(items[one]))) for one in order]


def _bounded(content: bytes) -> None:
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            infos = archive.infolist()
    except zipfile.BadZipFile:
        raise UnreadableFile("not a readable archive") from None
    size = sum(info.file_size for info in infos)
    if len(infos) > MAX_MEMBERS or size > MAX_UNPACKED_BYTES:
        most = f"{MAX_MEMBERS} files and {MAX_UNPACKED_BYTES >> 20} MiB"
        raise UnreadableFile(f"{len(infos)} files, {size >> 20} MiB inside, at most {most}")
