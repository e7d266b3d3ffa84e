"""Where names, ticks and lists stand in a plot, so that nothing covers anything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from .style import DASHES, FAINT, PAPER, RULE, color, entitle, spread

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
    """Write the series beside the plot, smallest median first."""
    axes.annotate(header, (1.1, 1.0), xycoords="axes fraction", color=FAINT, fontsize=8)
    for row, (_, index, text) in enumerate(told):
        y = 0.93 - 0.095 * row
        axes.annotate(text, (1.1, y), xycoords="axes fraction", va="center", fontsize=8.5)
        axes.plot([1.02, 1.085], [y, y], transform=axes.transAxes, clip_on=False, **look(index))


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
