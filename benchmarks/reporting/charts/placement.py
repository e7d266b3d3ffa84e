"""The plot of a ``placement`` report: what was cached against how many were at the replica."""

from __future__ import annotations

from collections.abc import Iterator

from ...figures.answer import Json
from .shared import Bar, bars
from .style import Chart


def charts(content: Json) -> Iterator[Chart]:
    """Yield two plots of the fullest load: prompt tokens that were cached, and the queue."""
    cases = content["cases"]
    if not cases:
        return
    level = cases[-1]["level"]
    mine = [case for case in cases if case["level"] == level]
    best = Bar("one shared cache without end", mine[0]["best"])
    yield bars(
        "placement-cached",
        "Prompt tokens that the chosen replica had cached",
        [best, *(Bar(case["policy"], case["hit"]) for case in mine)],
        "share of prompt tokens",
        caption=f"Simulated, load “{level}”: replicas come and go, and one beginning is hot for a "
        "while.",
    )
    yield bars(
        "placement-queue",
        "Requests at the chosen replica",
        [Bar(case["policy"], case["ahead_p95"]) for case in mine],
        "requests in flight or waiting there when a request came, p95",
        caption=f"Simulated, load “{level}”, the same requests as in the plot of cached tokens.",
    )
