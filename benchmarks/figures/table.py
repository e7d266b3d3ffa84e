"""A result table, for the console and for a page alike, and how it writes a value for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as RichTable


@dataclass(frozen=True, slots=True)
class Table:
    """One table; values are written by ``cell``.

    Attributes:
        text_columns: so many columns are words, the others numbers.
        page_only: names of columns that a terminal of 80 characters has no room for; a table of
            such columns alone is not printed.
        flagged: numbers of the rows that failed.
        folded: closed until it is opened.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""
    text_columns: int = 1
    page_only: frozenset[str] = frozenset()
    flagged: frozenset[int] = frozenset()
    folded: bool = False

    def cells(self) -> list[list[str]]:
        """Return every row as text."""
        return [[cell(value) for value in row] for row in self.rows]

    def printed(self) -> RichTable:
        """Return the table as it is printed."""
        found = RichTable(title=self.title, title_justify="left", caption_justify="left")
        found.box, found.pad_edge, found.show_edge = SIMPLE, False, False
        found.padding = (0, 1, 0, 0)  # eight columns fit a terminal of 80
        shown = [n for n, name in enumerate(self.columns) if name not in self.page_only]
        for n in shown:
            justify = "left" if n < self.text_columns else "right"
            found.add_column(self.columns[n], justify=justify, no_wrap=True)  # type: ignore[arg-type]
        for row in self.cells():
            found.add_row(*(row[n] for n in shown))
        found.caption = self.note or None
        return found


def show(console: Console, tables: Iterable[Table]) -> None:
    """Print the tables, in order."""
    for table in tables:
        if not table.page_only.issuperset(table.columns):
            console.print(table.printed())


def cell(value: object) -> str:
    """Return a value as text: empty for None, a pair of numbers as the bounds of an interval."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " to ".join(map(short, value))
    return short(value) if isinstance(value, float) else str(value)


def short(value: float) -> str:
    """Return a number with the three figures that count, without an exponent where that reads."""
    size = abs(value)
    if size and (size < 0.0001 or size >= 1e6):
        return f"{value:.2e}"
    if 0 < size < 1:
        return f"{value:#.3g}"
    digits = 0 if size >= 100 or not size else 1 if size >= 10 else 2
    return f"{value:,.{digits}f}"


def percent(value: float | None) -> float | None:
    """Return a share in per cent."""
    return None if value is None else 100.0 * value
