"""From estimates to the figures of ``bench routing``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from rich.console import Console

from livemind.benchmarks.reporting import outputs, reports
from livemind.benchmarks.routing.quality import Routed, quality
from livemind.orchestrator.routing.dataset import Prompt
from livemind.orchestrator.routing.estimate import RouteEstimate


def routed(domain: str, *path: tuple[str, float, bool]) -> Routed:
    estimates = (RouteEstimate(to, to, sure, stable=stable) for to, sure, stable in path)
    return Routed(Prompt("t", domain, "en", "f", "test"), tuple(estimates))


RIGHT = routed(
    "coding", ("general", 0.4, False), ("coding", 0.8, True), ("coding", 0.9, True),
    ("coding", 0.9, True),
)  # fmt: skip
TURNED = routed("technical", ("general", 0.9, True), ("technical", 0.5, False))


def test_quality_half_is_the_first_estimate_with_half_of_the_words() -> None:
    details, summary = quality([RIGHT, TURNED])
    assert (summary["routing.accuracy.full"], summary["routing.accuracy.half"]) == (1.0, 0.5)
    assert details["accuracy_by_share_of_words"]["0.1"] == 0.0


def test_quality_stable_is_judged_by_its_first_estimate() -> None:
    _, summary = quality([RIGHT, TURNED])
    assert summary["routing.stable.correct_share"] == 0.5
    assert summary["routing.stable.median_share_of_input"] == 0.5


def test_quality_prompt_that_never_settles_counts_as_settled_at_its_end() -> None:
    never = routed("general", ("general", 0.5, False), ("general", 0.5, False))
    _, summary = quality([never])
    assert summary["routing.stable.median_share_of_input"] == 1.0
    assert summary["routing.stable.correct_share"] is None


def test_quality_ece_is_the_gap_between_confidence_and_accuracy() -> None:
    sure_and_wrong = [routed("coding", ("general", 0.95, False))] * 2
    just_right = [routed("coding", ("coding", 0.55, False)), routed("coding", ("x", 0.55, False))]
    assert quality(sure_and_wrong)[1]["routing.ece"] == pytest.approx(0.95)
    assert quality(just_right)[1]["routing.ece"] == pytest.approx(0.05)


def test_quality_confusion_counts_where_whole_texts_went() -> None:
    details, _ = quality([routed("coding", ("coding", 0.2, False), ("general", 0.5, False))])
    assert details["confusion"]["coding"]["general"] == 1


@pytest.mark.parametrize(("measured", "drawn"), [(True, 4), (False, 0)])
def test_quality_is_drawn_as_four_plots_if_it_was_measured(
    tmp_path: Path, measured: bool, drawn: int
) -> None:
    details, summary = quality([RIGHT, TURNED])
    cases = {"quality": json.loads(json.dumps(details))} if measured else {}
    parts = {"machine": {}, "versions": {}, "config": {}, "summary": summary, "cases": cases}
    content = {"schema": "livemind.bench/1", "name": "routing", **parts}
    options = argparse.Namespace(html=tmp_path / "page.html", plots=tmp_path / "plots")
    outputs.write([reports.checked(tmp_path / "in.json", content)], options, Console(quiet=True))
    assert len(list(options.plots.glob("routing-*.png"))) == drawn
    assert options.html.read_text().count("<svg") == drawn
