"""What happened when: one row per stage, before and after a moment that counts.

The two sides have scales of their own, because seconds of typing and milliseconds of waiting do
not fit one axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from .placing import wrapped
from .style import INK, RULE, Chart, color, entitle, figure, styled


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        label: what it is.
        spans: (start, end) in milliseconds from the moment; drawn as bars.
        marks: moments, drawn as ticks.
        note: written at its end.
        strong: drawn in full colour; the others are paler (work in progress).
    """

    label: str
    spans: Sequence[tuple[float, float]] = ()
    marks: Sequence[float] = ()
    note: str = ""
    strong: bool = True


def waterfall(
    name: str,
    title: str,
    rows: Sequence[Row],
    *,
    moment: str = "commit",
    subtitle: str = "",
    caption: str = "",
) -> Chart:
    """Return the rows from top to bottom around time 0, which is named ``moment``.

    Left of it seconds, right of it milliseconds; each side is as long as the rows need.
    """
    first = min(_times(rows), default=0.0)
    last = max([1.0, *_times(rows)])
    with styled():
        drawn = figure(1.4 + 0.4 * len(rows))
        before, after = drawn.subplots(
            1, 2, sharey=True, gridspec_kw={"width_ratios": [3, 2], "wspace": 0.02}
        )
        for at, one in enumerate(rows):
            for axes, scale in ((before, 1000.0), (after, 1.0)):
                _row(axes, at, one, scale)
            if one.note:
                place = (1.03, at)
                coords = ("axes fraction", "data")
                after.annotate(one.note, place, xycoords=coords, va="center", fontsize=8.5)
        before.set_xlim(min(1.02 * first, -1.0) / 1000.0, 0)
        after.set_xlim(0, 1.05 * last)
        before.set_yticks(range(len(rows)), [wrapped(one.label) for one in rows])
        before.set_ylim(len(rows) - 0.4, -0.6)
        for axes in (before, after):
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
        after.spines["left"].set_visible(True)
        after.spines["left"].set(color=INK, linewidth=1.4)
        before.spines["left"].set_visible(False)
        before.set_xlabel(f"seconds before {moment}", loc="left")
        before.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        after.set_xlabel("ms after it", loc="right")
        after.annotate(
            moment,
            (0, 1.0),
            xycoords="axes fraction",
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8.5,
            fontweight="bold",
        )
        entitle(drawn, title, subtitle)
        return Chart(name, title, subtitle, caption, drawn)


def _times(rows: Sequence[Row]) -> list[float]:
    return [at for one in rows for at in (*one.marks, *(end for span in one.spans for end in span))]


def _row(axes: Axes, row: int, one: Row, scale: float) -> None:
    if row % 2:
        axes.axhspan(row - 0.5, row + 0.5, color=RULE, alpha=0.25, linewidth=0)
    for start, end in one.spans:
        axes.barh(
            row,
            (end - start) / scale,
            left=start / scale,
            height=0.56,
            color=color(row),
            alpha=0.9 if one.strong else 0.35,
        )
    inside = [at / scale for at in one.marks]
    axes.vlines(inside, row - 0.28, row + 0.28, color=color(row), linewidth=1.3)
