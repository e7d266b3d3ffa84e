"""How ``livemind top`` looks: a table of lines, the last of them the sum, and what went wrong."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from .fleet import Figures

COLUMNS = (
    "experts", "open", "busy", "wait", "turns/s", "TTFT", "route", "ahead", "used", "failed",
)  # fmt: skip
UNKNOWN = "-"


def view(lines: Sequence[Figures], *, since_start: bool) -> Group:
    """Return the view of these lines. ``since_start``: not of the last interval alone."""
    over = "since the start" if since_start else f"last {max(one.over_s for one in lines):.1f} s"
    title = f"livemind top, {over}; TTFT and route p50/p95 in ms, ahead in tokens"
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("gateway", overflow="fold", min_width=14)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for one in lines:
        cells = _cells(one) if one.known else [UNKNOWN] * len(COLUMNS)
        style = "bold" if one.name == "all" else None
        table.add_row(Text(one.name.removeprefix("http://")), *cells, style=style)
    wrong = [Text(f"{one.name}: {one.status}", style="red") for one in lines if one.status != "ok"]
    return Group(Text(title, style="dim"), table, *wrong)


def _cells(one: Figures) -> list[str]:
    return [
        one.experts,
        *map(str, (one.sessions, one.answering, one.waiting)),
        UNKNOWN if one.turns_per_s is None else f"{one.turns_per_s:,.1f}",
        _wait(one.ttft_p50_ms, one.ttft_p95_ms),
        _wait(one.route_p50_ms, one.route_p95_ms),
        f"{one.prefilled_tokens + one.drafted_tokens:,}",
        UNKNOWN if one.adopted is None else f"{one.adopted:.0%}",
        str(one.failed),
    ]


def _wait(p50_ms: float | None, p95_ms: float | None) -> str:
    return UNKNOWN if p50_ms is None else f"{p50_ms:,.3g}/{p95_ms:,.3g}"
