"""Files as blocks of text under headings, by their format.

Owns the list of formats and what makes a file unreadable. Blocking and, for hostile files, slow or
hungry: ``parse_process.py`` calls it in a process of its own. ``html.py``, ``markdown.py``,
``office.py`` and ``records.py`` read what their names say, this file the rest.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

from .blocks import Block, EmptyFile, UnreadableFile, squeezed
from .html import read_html
from .markdown import MetaValue, front_matter, read_markdown
from .office import read_docx, read_epub
from .records import read_csv, read_json, read_json_lines

MAX_FILE_BYTES = 32 * 1024 * 1024
MAX_PAGES = 2_000
MAX_TEXT_CHARS = 16 * 1024 * 1024
FORMATS = ("md", "txt", "html", "pdf", "rst", "py", "docx", "epub", "csv", "json", "jsonl")
OTHER_ENDINGS = {
    "markdown": "md", "htm": "html", "xhtml": "html", "text": "txt", "tsv": "csv",
    "ndjson": "jsonl",
}  # fmt: skip
ENDINGS = (*FORMATS, *OTHER_ENDINGS)


def format_of(name: str) -> str:
    """Return the format by the name's ending. Raises UnreadableFile for one that is not known."""
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    known = OTHER_ENDINGS.get(ending, ending)
    if known not in FORMATS:
        raise UnreadableFile(f"{name}: format {ending or 'unknown'!r} is none of {FORMATS}")
    return known


def parse(name: str, content: bytes, format_name: str) -> list[Block]:
    """Return the blocks in reading order.

    Args:
        name: for messages.
        content: at most 32 MiB.
        format_name: one of FORMATS.

    Raises:
        UnreadableFile: too large, or not of this format; an EmptyFile without text.
    """
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableFile(f"{name}: {len(content)} bytes, the limit is {MAX_FILE_BYTES}")
    if format_name not in FORMATS:
        raise UnreadableFile(f"{name}: format {format_name!r} is none of {FORMATS}")
    blocks, chars = [], 0
    try:
        for block in _read(content, format_name):
            chars += len(block.text)
            if chars > MAX_TEXT_CHARS:
                raise UnreadableFile(f"more than {MAX_TEXT_CHARS} characters of text")
            if block.text.strip():
                blocks.append(block)
    except UnreadableFile as exc:
        raise UnreadableFile(f"{name}: {exc}") from exc.__cause__
    if not blocks:
        raise EmptyFile(f"{name}: no text in it")
    return blocks


def metadata_of(content: bytes, format_name: str) -> dict[str, MetaValue]:
    """Return what the file says of itself: Markdown's front matter; of a readable file."""
    return front_matter(content.decode("utf-8-sig")) if format_name == "md" else {}


def _read(content: bytes, format_name: str) -> Iterator[Block]:
    if format_name in _BINARY:
        return _BINARY[format_name](content)
    return _TEXT[format_name](_decode(content))


def _decode(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise UnreadableFile(f"not UTF-8 text (byte {exc.start})") from None
    if "\0" in text:
        raise UnreadableFile("not text (it has NUL bytes)")
    return text


def _plain(text: str) -> Iterator[Block]:
    for paragraph in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        yield Block((), paragraph.strip("\n").rstrip())


def _pdf(content: bytes) -> Iterator[Block]:
    from io import BytesIO

    from pypdf import PdfReader

    if not content.lstrip()[:5] == b"%PDF-":
        raise UnreadableFile("not a PDF (it does not begin with %PDF-)")
    try:
        reader = PdfReader(BytesIO(content), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableFile("the PDF is encrypted")
        if len(reader.pages) > MAX_PAGES:
            raise UnreadableFile(f"{len(reader.pages)} pages, the limit is {MAX_PAGES}")
        pages = [page.extract_text() for page in reader.pages]
    except UnreadableFile:
        raise
    except Exception as exc:  # pypdf lets errors of every kind out when a file is damaged
        raise UnreadableFile(f"not a readable PDF ({type(exc).__name__})") from None
    for number, page in enumerate(pages, 1):
        for block in _plain(page):
            yield Block((f"page {number}",), squeezed(block.text))


def _rst(text: str) -> Iterator[Block]:
    from docutils import nodes
    from docutils.core import publish_doctree

    settings = {
        "file_insertion_enabled": False, "raw_enabled": False, "report_level": 5,
        "halt_level": 5, "warning_stream": False, "doctitle_xform": False,
    }  # fmt: skip
    tree = publish_doctree(text, settings_overrides=settings)

    def walk(node: Any, path: tuple[str, ...]) -> Iterator[Block]:
        for child in node.children:
            if isinstance(child, nodes.title):
                path = (*path, child.astext())
            elif isinstance(child, nodes.literal_block | nodes.doctest_block):
                yield Block(path, child.astext(), "code")
            elif isinstance(child, nodes.TextElement):
                yield Block(path, squeezed(child.astext()))
            elif not isinstance(child, nodes.system_message | nodes.Text):
                yield from walk(child, path)

    yield from walk(tree, ())


def _python(text: str) -> Iterator[Block]:
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield Block((), text, "code")
        return
    lines = text.splitlines()
    yield from _definitions(module.body, lines, ())


def _definitions(body: list[ast.stmt], lines: list[str], path: tuple[str, ...]) -> Iterator[Block]:
    """Yield functions whole, classes by method, what lies between as it stands."""
    for node in body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        last = node.end_lineno or node.lineno
        if isinstance(node, ast.ClassDef):
            here = (*path, f"class {node.name}")
            head = node.body[0].lineno - 1 if node.body else last
            yield Block(here, "\n".join(lines[first - 1 : max(head, first)]), "code")
            yield from _definitions(node.body, lines, here)
            continue
        named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        here = (*path, node.name) if named else path  # type: ignore[attr-defined]
        yield Block(here, "\n".join(lines[first - 1 : last]), "code")


_TEXT: dict[str, Callable[[str], Iterator[Block]]] = {
    "md": read_markdown, "txt": _plain, "html": read_html, "rst": _rst, "py": _python,
    "csv": read_csv, "json": read_json, "jsonl": read_json_lines,
}  # fmt: skip
_BINARY: dict[str, Callable[[bytes], Iterator[Block]]] = {
    "pdf": _pdf, "docx": read_docx, "epub": read_epub,
}  # fmt: skip
