"""Where names, ticks and lists stand in a plot, so that nothing covers anything else."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from math import inf
from typing import Any

from matplotlib.axes import Axes

from ...figures.table import short
from .style import DASHES, FAINT, PAPER, RULE, color, entitle, spread

LABEL_CHARACTERS = 26
"""Names beside a plot are wrapped here."""
MANY_DECADES = 150.0
"""A logarithmic axis longer than this factor is labelled at the powers of ten only."""


def labels(axes: Axes, title: str, subtitle: str, x_label: str, y_label: str = "") -> None:
    """Name plot and axes."""
    axes.set(xlabel=x_label, ylabel=y_label)
    drawn = axes.get_figure(root=True)
    assert drawn is not None
    entitle(drawn, title, subtitle)


def look(index: int) -> dict[str, Any]:
    """Return colour and dashes of the line with this number."""
    return {"color": color(index), "linestyle": DASHES[index // 2 % len(DASHES)]}


def scales(axes: Axes, *, log_x: bool, log_y: bool) -> None:
    """Make the wanted axes logarithmic, labelled in plain numbers."""
    for wanted, axis, change in (
        (log_x, axes.xaxis, axes.set_xscale),
        (log_y, axes.yaxis, axes.set_yscale),
    ):
        if not wanted:
            continue
        change("log")
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        low, high = axis.get_view_interval()
        axis.set_minor_formatter(_minor if high / low < MANY_DECADES else _nothing)
        axis.set_tick_params(which="minor", labelsize=7.5)


def _minor(value: float, _: object) -> str:
    """Label 2 and 5 of each decade."""
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""


def _nothing(_: float, __: object) -> str:
    return ""


def room(axes: Axes, x: Sequence[float]) -> None:
    """Leave room for names right of the points, and never magnify next to nothing."""
    low, high = axes.get_xlim()
    low, high = min(low, *x), max(high, *x)
    width = max(high - low, 0.1 * abs(high))
    axes.set_xlim(low - 0.1 * width, low + 1.45 * width)


def ticks_at(axes: Axes, x: Sequence[float]) -> None:
    """Label exactly the measured places, where they are few."""
    if 0 < len(x) <= 10:
        axes.set_xticks(x, [f"{one:g}" for one in x])
        axes.set_xticks([], minor=True)


def name_ends(
    axes: Axes, ends: Sequence[tuple[int, str, float, float]], *, at_point: bool = False
) -> None:
    """Write each name beside its last point, moved apart where they would touch."""
    if not ends:
        return
    drawn = axes.get_figure(root=True)
    assert drawn is not None
    drawn.draw_without_rendering()  # lays out: places are known afterwards
    places = [axes.transData.transform((x, y)) for _, _, x, y in ends]
    heights = [float(axes.transAxes.inverted().transform(place)[1]) for place in places]
    moved = spread(heights, 0.075, 0.0, 1.0)
    for (index, label, x, y), before, height in zip(ends, heights, moved, strict=True):
        far = abs(height - before) > 0.01 and not at_point
        axes.annotate(
            label,
            (x, y),
            xytext=(9 + 4 * at_point, (height - before) * axes.bbox.height * 72 / drawn.dpi),
            textcoords="offset points",
            color=color(index),
            va="center",
            fontsize=8.5,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
            arrowprops={"arrowstyle": "-", "color": RULE, "linewidth": 0.7} if far else None,
        )


def list_beside(axes: Axes, told: Sequence[tuple[float, int, str]], header: str) -> None:
    """Write the series beside the plot, smallest median first: line, median, name.

    An infinite median stands for a series without values.
    """
    axes.annotate(header, (1.1, 1.0), xycoords="axes fraction", color=FAINT, fontsize=8)
    place, line_height = 0.92, 0.055
    for middle, index, label in sorted(told):
        lines = textwrap.wrap(label, LABEL_CHARACTERS) or [""]
        value = "none" if middle == inf else short(middle)
        axes.plot(
            [1.02, 1.085],
            [place, place],
            transform=axes.transAxes,
            clip_on=False,
            **look(index),
        )
        for right_pt, text in ((0, value), (36, "\n".join(lines))):
            axes.annotate(
                text,
                (1.1, place + 0.5 * line_height),
                xycoords="axes fraction",
                xytext=(right_pt, 0),
                textcoords="offset points",
                va="top",
                fontsize=8,
            )
        place -= line_height * len(lines) + 0.025


def wrapped(label: str) -> str:
    """Return a name in as many lines as it takes."""
    return "\n".join(textwrap.wrap(label, LABEL_CHARACTERS))


def beside_rule(axes: Axes, at: float, label: str) -> None:
    """Name a vertical line, above the plot and left of it."""
    axes.annotate(
        label,
        (at, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-4, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=8,
        color=FAINT,
    )
