"""One look for every plot: colours, letters, and how a figure becomes SVG or PNG.

Colours are those of Okabe and Ito (2008), told apart with every common colour blindness; lines
differ in dashes and markers as well. In the SVG every colour is a CSS variable with the light
colour as its fallback, so that one drawing serves a light and a dark page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK, FAINT, RULE, PAPER = "#1d2430", "#5b6472", "#d5dae1", "#ffffff"
SERIES = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#b1568c",
    "#b47a00",
    "#3f9fd6",
    "#6b5bd2",
    "#7a7f87",
)
DARK = {
    INK: "#e6e9ee",
    FAINT: "#a3acba",
    RULE: "#39414d",
    PAPER: "#14181e",
    "#0072b2": "#4fb0f0",
    "#d55e00": "#ff8a3d",
    "#009e73": "#2fcb9d",
    "#b1568c": "#e79cc6",
    "#b47a00": "#efb93a",
    "#3f9fd6": "#8fd2fa",
    "#6b5bd2": "#a99cff",
    "#7a7f87": "#a9afb8",
}
"""Light colour -> the colour of the same thing on a dark page."""
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH_IN, TITLE_PT = 6.4, 10.5
_RC: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.facecolor": PAPER,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.5,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "livemind",
}


@dataclass(frozen=True, slots=True)
class Chart:
    """One finished plot.

    Attributes:
        name: file name without an ending; letters, digits, ``-`` and ``_``.
        title: what is seen, written into the figure as well.
        subtitle: of what; charts of one subtitle belong together.
        caption: how to read it; also what a screen reader is told.
    """

    name: str
    title: str
    subtitle: str
    caption: str
    figure: Figure

    def png(self) -> bytes:
        """Return the plot as PNG, light, 160 dots per inch."""
        with styled():
            out = io.BytesIO()
            self.figure.savefig(out, format="png", dpi=160)
            return out.getvalue()

    def svg(self) -> str:
        """Return an ``<svg>`` element to stand inside HTML: no prolog, ids of its own."""
        with styled():
            out = io.StringIO()
            self.figure.savefig(out, format="svg", transparent=True)
        text = out.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r'\bid="', f'id="{self.name}-', text)
        text = re.sub(r"url\(#", f"url(#{self.name}-", text)
        text = re.sub(r'href="#', f'href="#{self.name}-', text)
        for color in DARK:
            text = text.replace(color, f"var({variable(color)}, {color})")
        text = text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, system-ui, sans-serif")
        return re.sub(r'(<svg [^>]*?)width="[^"]*" ?', r"\1", text).replace(
            "<svg ", '<svg aria-hidden="true" ', 1
        )


def variable(color: str) -> str:
    """Return the CSS variable that stands for a colour of this module."""
    return f"--c{color[1:]}"


def color(index: int) -> str:
    """Return the colour of the series with this number; they repeat after eight."""
    return SERIES[index % len(SERIES)]


@contextmanager
def styled() -> Iterator[None]:
    """Draw in this style inside the ``with``; matplotlib's own settings stay as they were."""
    with mpl.rc_context(_RC):
        yield


def figure(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """Return an empty figure that lays itself out; to be called inside ``styled()``."""
    return Figure(figsize=(width_in, height_in), layout="constrained")


def entitle(drawn: Figure, title: str, subtitle: str = "") -> None:
    """Write the title at the figure's left edge, and what it is about below it, smaller."""
    room = f"{title}\n " if subtitle else title  # the layout keeps two lines free
    drawn.suptitle(room, x=0.012, ha="left", fontsize=TITLE_PT, fontweight="bold")
    if subtitle:
        y = 1.0 - (0.06 + 1.35 * TITLE_PT / 72.0) / drawn.get_figheight()
        drawn.text(0.012, y, subtitle, ha="left", va="top", fontsize=8.0, color=FAINT)
