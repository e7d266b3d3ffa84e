"""Files as blocks of text under headings: markdown, text, HTML, PDF, reStructuredText, Python.

Owns reading of formats and what makes a file unreadable. Blocking and, for hostile files, slow or
hungry: ``parse_process.py`` calls it in a process of its own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

Kind = Literal["text", "code"]

MAX_FILE_BYTES = 32 * 1024 * 1024
MAX_PAGES = 2_000
MAX_TEXT_CHARS = 16 * 1024 * 1024
FORMATS = ("md", "txt", "html", "pdf", "rst", "py")

_SPACE = re.compile(r"\s+")
_HTML_SKIP = frozenset(
    ("script", "style", "nav", "footer", "header", "form", "button", "svg", "template", "noscript")
)
_HTML_GROUPS = ("div", "section", "article", "main", "body", "aside", "details", "center", "figure")
_HTML_LISTS = ("ul", "ol", "dl", "li", "dt", "dd", "table", "thead", "tbody", "tr", "td", "th")
_HTML_LINES = ("p", "pre", "blockquote", "figcaption", "summary")
_HTML_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_HTML_BLOCKS = frozenset(_HTML_GROUPS + _HTML_LISTS + _HTML_LINES + _HTML_HEADINGS)


class UnreadableFile(Exception):
    """The file cannot be read as what it claims to be; the message names file, reason and limit."""


class EmptyFile(UnreadableFile):
    """There is no text in it."""


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, list item, signature or code block, below the headings that lead to it."""

    headings: tuple[str, ...]
    text: str
    kind: Kind = "text"


def format_of(name: str) -> str:
    """Return the format by the name's ending. Raises UnreadableFile for one that is not known."""
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    known = {"markdown": "md", "htm": "html", "text": "txt"}.get(ending, ending)
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
    if format_name == "pdf":
        found = _pdf(name, content)
    else:
        readers: dict[str, Callable[[str], Iterator[Block]]] = {
            "md": _markdown, "txt": _plain, "html": _html, "rst": _rst, "py": _python,
        }  # fmt: skip
        found = readers[format_name](_decode(name, content))
    blocks, chars = [], 0
    for block in found:
        chars += len(block.text)
        if chars > MAX_TEXT_CHARS:
            raise UnreadableFile(f"{name}: more than {MAX_TEXT_CHARS} characters of text")
        if block.text.strip():
            blocks.append(block)
    if not blocks:
        raise EmptyFile(f"{name}: no text in it")
    return blocks


def _decode(name: str, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise UnreadableFile(f"{name}: not UTF-8 text (byte {exc.start})") from None
    if "\0" in text:
        raise UnreadableFile(f"{name}: not text (it has NUL bytes)")
    return text


def _plain(text: str) -> Iterator[Block]:
    for paragraph in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        yield Block((), paragraph.strip("\n").rstrip())


def _markdown(text: str) -> Iterator[Block]:
    from markdown_it import MarkdownIt

    lines = text.splitlines()
    path: list[tuple[int, str]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for token, after in zip_longest(tokens, tokens[1:]):
        if token.type == "heading_open" and token.level == 0 and after is not None:
            depth = int(token.tag[1])
            path = [entry for entry in path if entry[0] < depth] + [(depth, after.content)]
        elif token.level == 0 and token.map is not None and token.type != "heading_open":
            body = "\n".join(lines[token.map[0] : token.map[1]]).rstrip()
            kind: Kind = "code" if token.type in ("fence", "code_block") else "text"
            if token.type == "paragraph_open":
                body = _SPACE.sub(" ", body).strip()
            yield Block(tuple(title for _, title in path), body, kind)


def _html(text: str) -> Iterator[Block]:
    import lxml.html

    try:
        root = lxml.html.document_fromstring(text.encode(), parser=lxml.html.HTMLParser(
            encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True))  # fmt: skip
    except Exception as exc:  # lxml's errors have no common base that is not SyntaxError
        raise UnreadableFile(f"not HTML ({type(exc).__name__})") from None
    main = root.xpath('//*[@role="main"]') or root.xpath("//main | //article") or [root]
    yield from _HtmlWalk().walk(main[0])


class _HtmlWalk:
    """Depth first through the elements, with the headings passed so far."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []

    def walk(self, element: Any) -> Iterator[Block]:
        """Yield the blocks of an element; text between block children is a block too."""
        tag = element.tag
        if not isinstance(tag, str) or tag in _HTML_SKIP:
            return
        if re.fullmatch("h[1-6]", tag):
            depth = int(tag[1])
            kept = [entry for entry in self._path if entry[0] < depth]
            self._path = [*kept, (depth, self._words(element))]
        elif tag == "pre":
            yield self._block(element.text_content().strip("\n"), "code")
        elif not any(child.tag in _HTML_BLOCKS for child in element):
            yield self._block(self._words(element))
        else:
            loose = [element.text or ""]
            for child in element:
                if child.tag in _HTML_BLOCKS:
                    yield self._block(_SPACE.sub(" ", "".join(loose)).strip())
                    loose = []
                    yield from self.walk(child)
                elif isinstance(child.tag, str) and child.tag not in _HTML_SKIP:
                    loose.append(child.text_content())
                loose.append(child.tail or "")
            yield self._block(_SPACE.sub(" ", "".join(loose)).strip())

    def _words(self, element: Any) -> str:
        return _SPACE.sub(" ", element.text_content()).strip().rstrip("¶").rstrip()

    def _block(self, text: str, kind: Kind = "text") -> Block:
        return Block(tuple(title for _, title in self._path), text, kind)


def _pdf(name: str, content: bytes) -> Iterator[Block]:
    from io import BytesIO

    from pypdf import PdfReader

    if not content.lstrip()[:5] == b"%PDF-":
        raise UnreadableFile(f"{name}: not a PDF (it does not begin with %PDF-)")
    try:
        reader = PdfReader(BytesIO(content), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableFile(f"{name}: the PDF is encrypted")
        if len(reader.pages) > MAX_PAGES:
            raise UnreadableFile(f"{name}: {len(reader.pages)} pages, the limit is {MAX_PAGES}")
        pages = [page.extract_text() for page in reader.pages]
    except UnreadableFile:
        raise
    except Exception as exc:  # pypdf lets errors of every kind out when a file is damaged
        raise UnreadableFile(f"{name}: not a readable PDF ({type(exc).__name__})") from None
    for number, page in enumerate(pages, 1):
        for block in _plain(page):
            yield Block((f"page {number}",), _SPACE.sub(" ", block.text).strip())


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
                yield Block(path, _SPACE.sub(" ", child.astext()).strip())
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
