"""HTML as blocks: what a reader of the page would read, tables by the row.

Reading is lxml's (libxml2). Scripts, styles, menus and forms are taken out of the tree before
anything is read of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from .blocks import Block, Kind, UnreadableFile, squeezed

_SKIP = (
    "script", "style", "nav", "footer", "header", "form", "button", "svg", "template", "noscript",
    "iframe", "object", "canvas", "select", "dialog", "math", "head",
)  # fmt: skip
_GROUPS = ("div", "section", "article", "main", "body", "aside", "details", "center", "figure")
_LISTS = ("ul", "ol", "dl", "li", "dt", "dd", "table")
_LINES = ("p", "pre", "blockquote", "figcaption", "summary")
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_BLOCKS = frozenset(_GROUPS + _LISTS + _LINES + _HEADINGS)
_HIDDEN = '//*[@hidden or @aria-hidden="true"]'


def read_html(text: str) -> Iterator[Block]:
    """Yield the blocks of the page's main part, of the whole page where none is marked."""
    import lxml.etree
    import lxml.html

    try:
        parser = lxml.html.HTMLParser(
            encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True
        )
        root = lxml.html.document_fromstring(text.encode(), parser=parser)
    except Exception as exc:  # lxml's errors have no common base that is not SyntaxError
        raise UnreadableFile(f"not HTML ({type(exc).__name__})") from None
    for hidden in root.xpath(_HIDDEN):
        hidden.tag = "template"
    lxml.etree.strip_elements(root, *_SKIP, with_tail=False)
    main = root.xpath('//*[@role="main"]') or root.xpath("//main | //article") or [root]
    yield from _Walk().walk(main[0])


class _Walk:
    """Depth first through the elements, with the headings passed so far."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []

    def walk(self, element: Any) -> Iterator[Block]:
        """Yield the blocks of an element; text between block children is a block too."""
        tag = element.tag
        if not isinstance(tag, str):
            return
        if tag in _HEADINGS:
            depth = int(tag[1])
            kept = [entry for entry in self._path if entry[0] < depth]
            self._path = [*kept, (depth, _words(element))]
        elif tag == "pre":
            yield self._block(element.text_content().strip("\n"), "code")
        elif tag == "table":
            yield from self._table(element)
        elif not any(child.tag in _BLOCKS for child in element):
            yield self._block(_words(element))
        else:
            loose = [element.text or ""]
            for child in element:
                if child.tag in _BLOCKS:
                    yield self._block(squeezed("".join(loose)))
                    loose = []
                    yield from self.walk(child)
                elif isinstance(child.tag, str):
                    loose.append(child.text_content())
                loose.append(child.tail or "")
            yield self._block(squeezed("".join(loose)))

    def _table(self, table: Any) -> Iterator[Block]:
        """Yield a block for each row, its cells named by the header; a table in a cell after it."""
        names: list[str] = []
        for caption in table.xpath("./caption"):
            yield self._block(_words(caption))
        for row in table.xpath("./tr | ./thead/tr | ./tbody/tr | ./tfoot/tr"):
            cells = row.xpath("./th | ./td")
            inner = [one for cell in cells for one in _outermost_tables(cell)]
            for one in inner:
                one.getparent().remove(one) if not one.tail else one.drop_tree()
            texts = [_words(cell) for cell in cells]
            if not names and texts and all(cell.tag == "th" for cell in cells):
                names = texts
            else:
                yield self._block(named_row(names, texts))
            for one in inner:
                yield from self._table(one)
        if names and not table.xpath(".//td"):
            yield self._block(named_row([], names))

    def _block(self, text: str, kind: Kind = "text") -> Block:
        return Block(tuple(title for _, title in self._path), text, kind)


def named_row(names: list[str], texts: list[str]) -> str:
    """Return a table's row as one line that can be read alone: ``Name: Kestrel; Port: 785``."""
    parts = []
    for name, text in zip_longest(names, texts, fillvalue=""):
        if text:
            parts.append(f"{name}: {text}" if name and name != text else text)
    return ("; " if names else " | ").join(parts)


def _outermost_tables(cell: Any) -> list[Any]:
    return list(cell.xpath(".//table[count(ancestor::table) = $depth]",
                           depth=len(cell.xpath("ancestor::table"))))  # fmt: skip


def _words(element: Any) -> str:
    return re.sub("¶$", "", squeezed(element.text_content())).rstrip()
