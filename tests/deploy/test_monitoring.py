"""Dashboard and alerts ask for metrics, labels and values that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import livemind
from livemind.backends.pool.state import STATES

ROOT = Path(livemind.__file__).parent
PAGES = [(ROOT / "docs" / name).read_text("utf-8") for name in ("operations.md", "protocol.md")]
DASHBOARD = ROOT / "deploy" / "grafana" / "livemind.json"
RULES = ROOT / "deploy" / "prometheus" / "livemind.rules.yml"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
OF_PROMETHEUS = {"up": {"job", "instance"}}


def samples() -> dict[str, set[str]]:
    """Return the labels of every sample, as docs/operations.md has them, which a test checks."""
    found = dict(OF_PROMETHEUS)
    for name, kind, labels in re.findall(
        r"^\| `(livemind_\w+)` \| (\w+) \| ([^|]+) \|", PAGES[0], re.MULTILINE
    ):
        for suffix in SUFFIXES[kind]:
            found[name + suffix] = {*re.findall(r"`(\w+)`", labels)} | (
                {"le"} if suffix == "_bucket" else set()
            )
    return found


def panels() -> list[Any]:
    found: list[Any] = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return found


def alerts() -> list[Any]:
    yaml: Any = pytest.importorskip("yaml")
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[str]:
    for panel in panels():
        yield from (target["expr"] for target in panel["targets"])
    yield from (alert["expr"] for alert in alerts())


def test_expressions_name_samples_labels_and_values_that_there_are() -> None:
    known, words = samples(), {word for page in PAGES for word in re.findall(r"`(\w+)`", page)}
    seen = set()
    for expression in expressions():
        names = re.findall(r"\b(livemind_\w+|up)\b(?:\{([^}]*)\})?", expression)
        assert names, expression
        labels: set[str] = set()
        for name, matchers in names:
            assert name in known, expression
            seen.add(name)
            labels |= known[name]
            for label, value in re.findall(r"(\w+)!?=\"([^\"]*)\"", matchers):
                assert label in known[name], expression
                assert label == "job" or value in words | set(STATES), expression
        for group in re.findall(r"\bby \(([^)]*)\)", expression):
            assert {label.strip() for label in group.split(",")} <= labels, expression
    assert len(seen) >= 15


def test_expressions_are_balanced_and_legends_name_labels_that_are_left() -> None:
    for panel in panels():
        for target in panel["targets"]:
            left = " ".join(re.findall(r"\bby \(([^)]*)\)", target["expr"]))
            if left:
                assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(
                    re.findall(r"\w+", left)
                ), target
    for expression in expressions():
        for opening, closing in ("()", "[]", "{}"):
            assert expression.count(opening) == expression.count(closing), expression


def test_panels_fill_the_width_and_have_titles_and_ids_of_their_own() -> None:
    places = [tuple(panel["gridPos"].values()) for panel in panels()]
    assert len(set(places)) == len(places)
    for key in ("id", "title"):
        assert len({panel[key] for panel in panels()}) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels())


def test_alerts_say_what_is_wrong_and_how_bad_it_is() -> None:
    names = [alert["alert"] for alert in alerts()]
    assert len(set(names)) == len(names)
    for alert in alerts():
        assert alert["labels"]["severity"] in ("page", "warning", "info"), alert
        assert len(alert["annotations"]["summary"]) > 20, alert
