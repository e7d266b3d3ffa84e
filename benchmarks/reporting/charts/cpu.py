"""The plots of ``cpu`` reports: tokens per second of every engine."""

from __future__ import annotations

from collections.abc import Iterator

from ...figures.answer import Json
from .shared import bars, spread
from .style import Chart

_TITLES = {
    "prefill": "Reading a long prompt",
    "decode": "Writing one answer",
    "streams": "Writing several answers at a time",
}


def charts(content: Json) -> Iterator[Chart]:
    """Yield one plot per figure."""
    for figure, title in _TITLES.items():
        yield bars(
            f"cpu-{figure}",
            title,
            [spread(case["arm"], case["tokens_per_s"][figure]) for case in content["cases"]],
            "tokens per second",
            caption="Medians over rounds in which the engines take turns; from p10 to p90.",
        )
