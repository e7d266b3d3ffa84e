"""Two runs of one benchmark side by side: differences, intervals, and a verdict per number.

B is held against A. Conversations that both runs asked are drawn in pairs; without them each run is
drawn on its own. A number whose values the report does not keep has no interval and no verdict.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from ..bench import BenchmarkFailed
from ..figures.table import Table
from ..harness import report
from . import outputs
from .differences import Comparison, compare
from .reports import read

_STYLES = {"better": "green", "worse": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("a", type=Path, metavar="A.json", help="the run to hold against")
    parser.add_argument("b", type=Path, metavar="B.json", help="the run that is judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison")
    parser.add_argument("--html", type=Path, metavar="FILE", help="one page with everything")
    parser.set_defaults(plots=None)


def run(options: argparse.Namespace, console: Console) -> int:
    """Show the differences and write what is asked for; return the exit status."""
    outputs.check(options)
    found = compare(read(options.a), read(options.b))
    _show(console, found)
    try:
        if options.json is not None:
            report.write(options.json, found.content())
            console.print(f"comparison: {options.json}")
        if options.html is not None:
            from .page import comparison_page

            report.put(options.html, comparison_page(found).encode())
            console.print(f"page: {options.html}")
    except OSError as exc:
        raise BenchmarkFailed(f"{exc.filename}: {exc.strerror}") from exc
    return 0


def _show(console: Console, found: Comparison) -> None:
    for warning in found.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
    known = [one for one in found.differences if one.difference is not None]
    rows = [(one.key, one.a, one.b, one.difference, one.bounds, one.verdict) for one in known]
    columns = ("number", "A", "B", "B - A", "95 % of it", "verdict")
    table = Table("", columns, rows).printed()
    table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"
    for row, one in zip(table.rows, known, strict=True):
        row.style = _STYLES.get(one.verdict)
    console.print(table)
    console.print(found.told(), markup=False, highlight=False)
    for line in _reasons(found):
        console.print(line, style="dim", markup=False, highlight=False)


def _reasons(found: Comparison) -> Iterator[str]:
    """Yield each reason for no verdict, once, with the keys it holds for."""
    by_reason: dict[str, int] = {}
    for one in found.differences:
        if one.why and (one.a is not None or one.b is not None):
            by_reason[one.why] = by_reason.get(one.why, 0) + 1
    for why, count in by_reason.items():
        yield f"not judged, {count} numbers: {why}"
