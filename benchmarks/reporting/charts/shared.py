"""The plots that benchmarks share. Each function draws one and knows nothing of any benchmark.

Axes carry their units in the label that is given; what a series is called stands beside it.
Values that are None are left out, never drawn as 0.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from operator import itemgetter

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ...figures.answer import Number
from ...figures.estimates import interval, quantile_sample
from ...figures.stats import p50
from ...figures.table import short
from .placing import (
    beside_rule,
    labels,
    look,
    name_series,
    scales,
    ticks_at,
    wrapped,
)
from .style import (
    FAINT,
    INK,
    MARKERS,
    PAPER,
    Chart,
    color,
    figure,
    styled,
)

FEW = 60
"""A distribution of fewer values shows each of them."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: ``y`` over ``x``, with an interval where ``low`` and ``high`` are known."""

    label: str
    x: Sequence[float]
    y: Sequence[Number]
    low: Sequence[Number] | None = None
    high: Sequence[Number] | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar with its interval; ``value`` None is written as unknown."""

    label: str
    value: Number
    low: Number = None
    high: Number = None
    note: str = ""


def spread(label: str, told: Mapping[str, Number]) -> Bar:
    """Return the bar of a median from p10 to p90."""
    return Bar(label, told["p50"], told["p10"], told["p90"])


def estimated(
    units: Sequence[Hashable], values: Sequence[float], q: float
) -> tuple[Number, Number, Number]:
    """Return a quantile with its interval over units, None where there are too few."""
    sample = quantile_sample(units, values, q)
    found = interval(sample)
    return (sample.value(), found.low, found.high) if found else (sample.value(), None, None)


@dataclass(frozen=True, slots=True)
class Point:
    """One point with its interval along ``y``; points of one ``series`` look alike."""

    label: str
    x: Number
    y: Number
    low: Number = None
    high: Number = None
    series: int = 0


def line(
    name: str,
    title: str,
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    subtitle: str = "",
    caption: str = "",
    log_x: bool = False,
    log_y: bool = False,
) -> Chart:
    """Return lines over a shared axis, named beside the plot."""
    with styled():
        drawn = figure(3.6)
        axes = drawn.add_subplot()
        for index, one in enumerate(lines):
            known = [n for n, value in enumerate(one.y) if value is not None]
            if not known:
                continue
            x, y = [one.x[n] for n in known], [_sure(one.y[n]) for n in known]
            marker = MARKERS[index % len(MARKERS)]
            axes.plot(x, y, **look(index), marker=marker, label=wrapped(one.label))
            _band(axes, one, index)
        scales(axes, log_x=log_x, log_y=log_y)
        ticks_at(axes, sorted({x for one in lines for x in one.x}))
        labels(axes, title, subtitle, x_label, y_label)
        name_series(axes, axes.lines)
        return Chart(name, title, subtitle, caption, drawn)


def cdf(
    name: str,
    title: str,
    samples: Mapping[str, Sequence[float]],
    x_label: str,
    *,
    unit: str = "",
    subtitle: str = "",
    caption: str = "",
    log_x: bool = False,
) -> Chart:
    """Return the share of values at or below x, per series, named beside it with its median.

    Series without values are named as such.
    """
    with styled():
        drawn = figure(3.4)
        axes = drawn.add_subplot()
        told: list[tuple[float, int, Artist]] = []
        for index, (label, values) in enumerate(samples.items()):
            ordered = sorted(values)
            middle = p50(ordered)
            named = f"{label}: no values" if middle is None else f"{short(middle)}  {label}"
            shares = [(n + 1) / len(ordered) for n in range(len(ordered))]
            (drawn_line,) = axes.step(
                [*ordered[:1], *ordered],
                [0.0, *shares] if ordered else [],
                where="post",
                label=wrapped(named),
                **look(index),
            )
            if len(ordered) <= FEW:
                axes.plot(ordered, shares, ".", color=color(index), markersize=3.5)
            told.append((inf if middle is None else middle, index, drawn_line))
        scales(axes, log_x=log_x, log_y=False)
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f} %")
        labels(axes, title, subtitle, x_label, "share of values")
        handles = [handle for _, _, handle in sorted(told, key=itemgetter(0, 1))]
        name_series(axes, handles, f"median, {unit}" if unit else "median")
        return Chart(name, title, subtitle, caption, drawn)


def bars(
    name: str,
    title: str,
    groups: Sequence[Bar],
    x_label: str,
    *,
    subtitle: str = "",
    caption: str = "",
    reference: float | None = None,
    reference_label: str = "",
    log_x: bool = False,
) -> Chart:
    """Return horizontal bars from top to bottom, each with its value and interval written out.

    On a logarithmic axis a bar has no honest length: values are points then.
    """
    with styled():
        drawn = figure(1.2 + 0.4 * max(len(groups), 1))
        axes = drawn.add_subplot()
        for row, one in enumerate(groups):
            text = "unknown" if one.value is None else short(one.value)
            if one.value is not None:
                _bar(axes, row, one, as_point=log_x)
                if one.low is not None and one.high is not None:
                    text += f"  [{short(one.low)}, {short(one.high)}]"
            text += f"  {one.note}" if one.note else ""
            axes.annotate(
                text, (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=8.5
            )
        axes.set_yticks(range(len(groups)), [wrapped(one.label) for one in groups], fontsize=8.5)
        axes.set_ylim(len(groups) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        scales(axes, log_x=log_x, log_y=False)
        if not log_x:
            axes.set_xlim(left=min([0.0, *(_least(one) for one in groups)]))
        if reference is not None:
            axes.axvline(reference, color=INK, linewidth=1.0, linestyle=(0, (4, 3)))
            beside_rule(axes, reference, reference_label)
        labels(axes, title, subtitle, x_label)
        return Chart(name, title, subtitle, caption, drawn)


def heat_map(
    name: str,
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[Number]],
    x_label: str,
    y_label: str,
    *,
    subtitle: str = "",
    caption: str = "",
    digits: int = 2,
) -> Chart:
    """Return a table of shades with every value written in its cell (a confusion matrix, say).

    Args:
        name: of the file.
        title: of the plot.
        rows: names from top to bottom.
        columns: names from left to right.
        values: one row of numbers per name in ``rows``; None stays empty.
        x_label: what the columns are.
        y_label: what the rows are.
        subtitle: of what.
        caption: how to read it.
        digits: after the decimal point.

    Raises:
        ValueError: the values do not have the shape of the names.
    """
    if [len(row) for row in values] != [len(columns)] * len(rows):
        raise ValueError(f"values: need {len(rows)} rows of {len(columns)} numbers")
    with styled():
        drawn = figure(1.5 + 0.38 * len(rows))
        axes = drawn.add_subplot()
        known = [value for row in values for value in row if value is not None]
        low, high = min([0.0, *known]), max(known, default=1.0)
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                if value is None:
                    continue
                share = (value - low) / (high - low) if high > low else 0.0
                corner = (x - 0.48, y - 0.47)
                cell = Rectangle(corner, 0.96, 0.94, facecolor=color(0), alpha=0.06 + 0.94 * share)
                axes.add_patch(cell)
                ink = PAPER if share > 0.55 else INK
                axes.text(x, y, f"{value:.{digits}f}", ha="center", va="center", color=ink)
        axes.set_xticks(range(len(columns)), columns, rotation=30 if len(columns) > 5 else 0)
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
        labels(axes, title, subtitle, x_label, y_label)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
        return Chart(name, title, subtitle, caption, drawn)


def scatter(
    name: str,
    title: str,
    points: Sequence[Point],
    x_label: str,
    y_label: str,
    *,
    subtitle: str = "",
    caption: str = "",
    reference: tuple[float | None, float | None] = (None, None),
    log_y: bool = False,
) -> Chart:
    """Return named points with intervals along y; ``reference`` draws a line at x and at y."""
    with styled():
        drawn = figure(3.6)
        axes = drawn.add_subplot()
        for at, rule in zip(reference, (axes.axvline, axes.axhline), strict=True):
            if at is not None:
                rule(at, color=FAINT, linewidth=1.0, linestyle=(0, (4, 3)))
        handles: list[Artist] = []
        for one in points:
            if one.x is None or one.y is None:
                continue
            index = one.series
            if one.low is not None and one.high is not None:
                axes.plot([one.x, one.x], [one.low, one.high], color=color(index), linewidth=1.2)
            marker = MARKERS[index % len(MARKERS)]
            named = wrapped(one.label)
            handles += axes.plot(
                [one.x], [one.y], marker, color=color(index), markersize=7, label=named
            )
        axes.margins(y=0.14)
        scales(axes, log_x=False, log_y=log_y)
        labels(axes, title, subtitle, x_label, y_label)
        name_series(axes, handles)
        return Chart(name, title, subtitle, caption, drawn)


def _sure(value: Number) -> float:
    assert value is not None
    return value


def _least(one: Bar) -> float:
    return min(value for value in (one.value, one.low, 0.0) if value is not None)


def _band(axes: Axes, one: Line, index: int) -> None:
    if one.low is None or one.high is None:
        return
    known = [
        (x, low, high)
        for x, low, high in zip(one.x, one.low, one.high, strict=True)
        if low is not None and high is not None
    ]
    if known:
        x, low, high = zip(*known, strict=True)
        axes.fill_between(x, low, high, color=color(index), alpha=0.15, linewidth=0)


def _bar(axes: Axes, row: int, one: Bar, *, as_point: bool) -> None:
    assert one.value is not None
    if as_point:
        axes.plot([one.value], [row], "o", color=color(0), markersize=7)
    else:
        axes.barh(row, one.value, height=0.62, color=color(0), alpha=0.85)
    if one.low is not None and one.high is not None:
        axes.plot([one.low, one.high], [row, row], color=INK, linewidth=1.4, marker="|")
