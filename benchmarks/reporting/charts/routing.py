"""The plots of a ``routing`` report: how early, how calibrated, what is confused, when stable."""

from __future__ import annotations

from collections.abc import Iterator

from ...figures.answer import Json
from .shared import Line, cdf, heat_map, line
from .style import Chart

AT = {"full": "whole text", "every_word": "after every word"}


def charts(content: Json) -> Iterator[Chart]:
    """Yield the plots of the held-out prompts; nothing for a run that ended before them."""
    quality = content["cases"].get("quality")
    if quality is None:
        return
    yield _by_share(quality)
    yield _reliability(quality)
    yield _confusion(quality)
    yield cdf(
        "routing-stable",
        "Words typed when the route became stable",
        {"held-out prompts": quality["stable"]["share_of_words"]},
        "share of the words",
        caption="Prompts whose route never became stable count as 1.",
    )


def _by_share(quality: Json) -> Chart:
    by_share = quality["accuracy_by_share_of_words"]
    return line(
        "routing-accuracy",
        "Accuracy against the share of the words typed",
        [Line("LiveMind", [float(part) for part in by_share], list(by_share.values()))],
        "share of the words",
        "share of the prompts routed right",
    )


def _reliability(quality: Json) -> Chart:
    lines = [Line("calibrated", [0.0, 1.0], [0.0, 1.0])]
    for part, label in AT.items():
        bins = [one for one in quality["reliability"][part] if one["count"]]
        x, y = [one["confidence"] for one in bins], [one["right"] for one in bins]
        lines.append(Line(label, x, y))
    return line(
        "routing-reliability",
        "What confidence means",
        lines,
        "confidence, mean of a bin",
        "share of the estimates that were right",
        caption="Ten bins of equal width. On the line of slope one, estimates that say 0.8 are "
        "right eight times in ten.",
    )


def _confusion(quality: Json) -> Chart:
    confusion = quality["confusion"]
    return heat_map(
        "routing-confusion",
        "Where whole prompts went",
        list(confusion),
        list(next(iter(confusion.values()))),
        [list(row.values()) for row in confusion.values()],
        "routed to",
        "domain of the prompt",
        digits=0,
    )
