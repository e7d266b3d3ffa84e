"""The plot of a ``load`` report: the wait against the number of sessions, with and without."""

from __future__ import annotations

from collections.abc import Iterator

from ...figures.answer import Json
from ...load.samples import LEVELS, completed
from .shared import Line, estimated, line
from .style import Chart


def charts(content: Json) -> Iterator[Chart]:
    """Yield TTFT against load, one plot per level; rows have sessions, mode, turn and ttft_ms."""
    rows = completed(content["turns"])
    sessions = sorted({row["sessions"] for row in rows})
    modes = dict.fromkeys(row["mode"] for row in rows)
    for level, q in LEVELS.items():
        lines = []
        for mode in modes:
            found = []
            for n in sessions:
                some = [r["ttft_ms"] for r in rows if (r["mode"], r["sessions"]) == (mode, n)]
                found.append(estimated(range(len(some)), some, q))
            y, low, high = zip(*found, strict=True) if found else ((), (), ())
            lines.append(Line(str(mode), sessions, y, low, high))
        yield line(
            f"ttft-load-{level}",
            f"Time to first token against load, {level}",
            lines,
            "sessions at the same time",
            "milliseconds from the commit to the first text",
            log_x=True,
            log_y=True,
            caption="Where a line bends upwards the server is full. Bands are 95 % bootstrap "
            "intervals over turns; without a band there are too few for one.",
        )
