"""The plots of a ``languages`` report: right routes by language, passages found by encoder."""

from __future__ import annotations

from collections.abc import Iterator

from ...figures.answer import Json
from .shared import Bar, bars
from .style import Chart


def charts(content: Json) -> Iterator[Chart]:
    """Yield a plot of routing and one for each encoder, of hybrid search; of what was measured."""
    routed = [case for case in content["cases"] if case.get("reads") == "every language"]
    for encoder in dict.fromkeys(case["encoder"] for case in routed):
        mine = [case for case in routed if case["encoder"] == encoder]
        yield bars(
            f"languages-routing-{encoder}",
            f"Right domain of whole texts, experts that read every language: {encoder}",
            [Bar(case["language"], case["whole"] / case["prompts"]) for case in mine],
            "share of the prompts",
            caption="One expert for each of five domains.",
        )
    cases = [case for case in content["cases"] if case.get("mode") == "hybrid"]
    for encoder in dict.fromkeys(case["encoder"] for case in cases):
        mine = [case for case in cases if case["encoder"] == encoder]
        yield bars(
            f"languages-{encoder}",
            f"Right passage among three: {encoder}",
            [
                Bar(f"{case['language']} → {target}", case[name] / case["questions"])
                for case in mine
                for name, target in (("own", case["language"]), ("english", "en"))
                if name == "own" or case["language"] != "en"
            ],
            "share of the questions",
            caption="Hybrid search with the encoder's own threshold, twenty questions a language.",
        )
