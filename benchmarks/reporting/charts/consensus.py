"""The plots of a ``consensus`` report: how right each arm is, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...figures.answer import Json
from .shared import Bar, bars
from .style import Chart

ROUTES = {
    "right": "in domain, unanswerable, mixed documents",
    "wrong": "the question goes to another domain's expert",
}
TIMES = {
    "ttft_ms": ("consensus-ttft", "Time to first token", "commit to first text"),
    "completion_ms": ("consensus-completion", "Time to the whole answer", "commit to the end"),
}


def charts(content: Json) -> Iterator[Chart]:
    """Yield accuracy and times per arm, of whole questions and of typed ones."""
    titles: Mapping[str, str] = content["arms"]
    cases = {case["name"]: case for case in content["cases"]}
    if "accuracy" in cases:
        arms = cases["accuracy"]["arms"]
        yield from _right(arms, titles)
        timed = {title: arms[arm] for arm, title in titles.items() if "ttft_ms" in arms[arm]}
        yield from _times(timed, "", "whole question at once")
    if "typed" in cases:
        typed = {titles[arm]: one for arm, one in cases["typed"]["arms"].items()}
        yield from _times(typed, "-typed", "typed at 400 characters a minute")


def _right(arms: Mapping[str, Json], titles: Mapping[str, str]) -> Iterator[Chart]:
    for route, asked in ROUTES.items():
        key = f"accuracy_routed_{route}"
        groups = []
        for arm, title in titles.items():
            low, high = arms[arm][f"{key}_ci95"] or (None, None)
            groups.append(Bar(title, arms[arm][key], low, high))
        yield bars(
            f"consensus-accuracy-routed-{route}",
            f"Right answers, routed {route}",
            groups,
            "share of the questions",
            subtitle=asked,
            reference=arms["single"][key],
            reference_label="best single",
            caption="Bars have 95 % bootstrap intervals over questions.",
        )


def _times(arms: Mapping[str, Json], suffix: str, subtitle: str) -> Iterator[Chart]:
    for key, (name, title, what) in TIMES.items():
        groups = []
        for arm, one in arms.items():
            low, high = one[key]["p50_ci95"] or (None, None)
            groups.append(Bar(arm, one[key]["p50"], low, high))
        yield bars(
            f"{name}{suffix}",
            title,
            groups,
            f"milliseconds, {what}, median",
            subtitle=subtitle,
            caption="Medians with 95 % bootstrap intervals.",
        )
