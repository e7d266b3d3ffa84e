"""Where names and ticks stand in a plot, so that nothing covers anything else."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from .style import DASHES, FAINT, color, entitle

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


def ticks_at(axes: Axes, x: Sequence[float]) -> None:
    """Label exactly the measured places, where they are few."""
    if 0 < len(x) <= 10:
        axes.set_xticks(x, [f"{one:g}" for one in x])
        axes.set_xticks([], minor=True)


def name_series(axes: Axes, handles: Sequence[Artist], header: str = "") -> None:
    """Write the names of the series beside the plot, in this order."""
    axes.legend(
        handles=handles,
        title=header or None,
        title_fontproperties={"size": 8},
        alignment="left",
        loc="upper left",
        bbox_to_anchor=(1.0, 1.03),
        frameon=False,
        fontsize=8,
    )


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
