"""The plot of a ``languages`` report: passages found by language and encoder."""

from __future__ import annotations

from collections.abc import Iterator

from ...figures.answer import Json
from .shared import Bar, bars
from .style import Chart


def charts(content: Json) -> Iterator[Chart]:
    """Yield a plot for each encoder, of hybrid search; nothing where it was not measured."""
    cases = [case for case in content["cases"] if case["mode"] == "hybrid"]
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
