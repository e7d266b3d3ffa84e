from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.axes import Axes

from livemind.benchmarks.figures.table import short
from livemind.benchmarks.reporting.charts.shared import (
    Bar,
    Line,
    Point,
    bars,
    cdf,
    heat_map,
    line,
    scatter,
)
from livemind.benchmarks.reporting.charts.style import DARK, SERIES, Chart
from livemind.benchmarks.reporting.charts.waterfall import Row, waterfall


def _texts(chart: Chart) -> list[str]:
    found = ET.fromstring(chart.svg()).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(one.itertext()) for one in found]


def _axes(chart: Chart) -> Axes:
    return chart.figure.axes[0]


def test_line_leaves_unknown_values_out_and_names_the_others() -> None:
    lines = [Line("off", [1, 2, 4], [3.0, None, 5.0], [2.0, None, 4.0], [4.0, None, 6.0])]
    lines.append(Line("never known", [1, 2, 4], [None, None, None]))
    chart = line("load", "Load", lines, "sessions", "ms", subtitle="of what")
    (drawn,) = _axes(chart).lines
    assert np.asarray(drawn.get_ydata()).tolist() == [3.0, 5.0]
    texts = _texts(chart)
    assert {"off", "sessions", "ms", "Load", "of what", "1", "2", "4"} <= set(texts)
    assert "never known" not in texts


def test_cdf_ends_at_one_and_lists_medians_smallest_first() -> None:
    chart = cdf("c", "C", {"slow": [30.0, 10.0, 20.0], "fast": [1.0, 2.0], "none": []}, "ms")
    steps = _axes(chart).lines[0]
    assert np.asarray(steps.get_xdata()).tolist() == [10.0, 10.0, 20.0, 30.0]
    assert np.asarray(steps.get_ydata()).tolist() == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0])
    wanted = ["median", "1.50  fast", "20.0  slow", "none: no values"]
    assert [text for text in _texts(chart) if text in wanted] == wanted


def test_bars_write_value_interval_and_unknown() -> None:
    groups = [Bar("one", 2.0, 1.5, 2.5, "n=9"), Bar("two", None)]
    texts = _texts(bars("b", "B", groups, "times", reference=1.0, reference_label="same"))
    assert any(text.split() == ["2.00", "[1.50,", "2.50]", "n=9"] for text in texts)
    assert {"unknown", "same", "one", "two"} <= set(texts)


def test_bars_on_a_logarithmic_axis_are_points() -> None:
    groups = [Bar("one", 0.01), Bar("two", 1.0)]
    assert len(_axes(bars("b", "B", groups, "times")).patches) == 2
    assert len(_axes(bars("b", "B", groups, "times", log_x=True)).patches) == 0


def test_heat_map_writes_every_known_value_and_refuses_another_shape() -> None:
    chart = heat_map("h", "H", ["a", "b"], ["c", "d"], [[0.5, None], [1.0, 0.25]], "is", "was")
    texts = _texts(chart)
    assert [text for text in texts if "." in text] == ["0.50", "1.00", "0.25"]
    with pytest.raises(ValueError, match="need 2 rows of 2 numbers"):
        heat_map("h", "H", ["a", "b"], ["c", "d"], [[0.5, 1.0]], "is", "was")


def test_scatter_leaves_out_points_with_an_unknown_place() -> None:
    points = [Point("here", 1.2, 0.1, 0.05, 0.2), Point("nowhere", None, 0.5)]
    chart = scatter("s", "S", points, "cost", "gain", log_y=True, reference=(1.0, 1.0))
    texts = _texts(chart)
    assert "here" in texts
    assert "nowhere" not in texts


def test_waterfall_has_seconds_before_and_milliseconds_after() -> None:
    rows = [Row("typing", marks=[-8000.0, -500.0]), Row("first token", [(0.0, 40.0)])]
    before, after = waterfall("w", "W", rows).figure.axes
    low, high = before.get_xlim()
    assert low == pytest.approx(-8.16)
    assert high == 0.0
    assert after.get_xlim() == pytest.approx((0.0, 42.0))


def test_svg_stands_in_a_page_with_others_and_follows_its_colours() -> None:
    label = "<b> & $x_1$"
    lines = [Line(label, [1, 2], [1.0, 2.0]), Line("other", [1, 2], [2.0, 1.0])]
    first, second = (line(name, label, lines, "x", "y").svg() for name in ("one", "two"))
    ids = [{one.get("id") for one in ET.fromstring(svg).iter()} - {None} for svg in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert "<b>" not in first
    assert label in ["".join(one.itertext()) for one in ET.fromstring(first).iter()]
    assert first.startswith("<svg")
    for color in SERIES[:2]:
        assert f"var(--c{color[1:]}, {color})" in first
    assert set(SERIES) < set(DARK)


def test_svg_of_the_same_plot_is_the_same_text() -> None:
    one, other = (line("n", "T", [Line("a", [1], [1.0])], "x", "y").svg() for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.00104, "0.00104"),
        (0.5, "0.500"),
        (-1.234, "-1.23"),
        (45.67, "45.7"),
        (1234.5, "1,234"),
        (0.00001234, "1.23e-05"),
        (2e7, "2.00e+07"),
    ],
)
def test_short_keeps_three_figures_that_count(value: float, text: str) -> None:
    assert short(value) == text
