"""The plots of a ``retrieval`` report: how early documents are right, and what a latency leaves."""

from __future__ import annotations

from collections.abc import Iterator

from ...figures.answer import Json
from .shared import Line, cdf, line
from .style import Chart

LATENCIES_MS = (150, 300, 600)


def charts(content: Json) -> Iterator[Chart]:
    """Yield the plots of the word-by-word part, nothing where that was not measured."""
    early = content["cases"].get("early")
    if early is None:
        return
    words = early["words"]
    points = {"an answering page": "sufficient_at", "the final five": "equal_at"}
    yield cdf(
        "retrieval-early",
        "From which part of a question on the passages are right",
        {
            label: [at / count for at, count in zip(early[key], words, strict=True)]
            for label, key in points.items()
        },
        "share of the words",
        caption="Sufficient: from there on the five passages have what the whole question finds.",
    )
    summary = content["summary"]
    shares = {
        "hideable": [summary[f"retrieval.hideable_share_{ms}ms"] for ms in LATENCIES_MS],
        "hidden": [summary[f"retrieval.hidden_share_{ms}ms"] for ms in LATENCIES_MS],
        "settled": [summary[f"retrieval.settled_share_{ms}ms"] for ms in LATENCIES_MS],
        "frozen recall@5": [early["played"][f"{ms}ms"]["frozen_recall5"] for ms in LATENCIES_MS],
    }
    yield line(
        "retrieval-latency",
        "What a retrieval's time leaves of the head start",
        [Line(label, LATENCIES_MS, values) for label, values in shares.items()],
        "milliseconds of a retrieval",
        "share of the questions",
        caption=f"Three words a second; recall@5 of the whole question is "
        f"{summary['retrieval.recall5.final']:.3f}.",
    )
