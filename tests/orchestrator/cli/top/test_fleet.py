"""The figures of gateways and of their sum: added counters, quantiles of added histograms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from livemind.orchestrator.cli.top.fleet import Reading, figures, less, quantile, summed


def stats(
    up_s: float, turns: int, waits: Mapping[str, float], sessions: int = 1, **counters: int
) -> dict[str, Any]:
    return {
        "status": "ok",
        "models_loaded": 1,
        "models_available": 2,
        "sessions": sessions,
        "answering": 2,
        "waiting": 1,
        "server": {"uptime_s": up_s},
        "totals": {
            "counters": {"turns_completed": turns, **counters},
            "ttft_seconds": {"fake": {"count": turns, "sum": 1.0, **waits}},
            "route_seconds": {},
        },
    }


def test_sum_adds_numbers_of_every_depth_and_keeps_what_one_alone_has() -> None:
    assert summed([{"a": 1, "b": {"c": 2.5}}, {"a": 3, "b": {"d": 1}}, {}]) == {
        "a": 4,
        "b": {"c": 2.5, "d": 1},
    }


def test_difference_of_two_readings_counts_what_is_new_from_nothing() -> None:
    assert less({"a": 5, "b": {"c": 2}, "d": 1}, {"a": 3, "b": {"c": 2}}) == {
        "a": 2,
        "b": {"c": 0},
        "d": 1,
    }


@pytest.mark.parametrize(
    ("histogram", "q", "expected"),
    [
        ({}, 0.5, None),
        ({"0.1": 0, "+Inf": 0}, 0.5, None),
        ({"0.1": 10, "0.2": 10, "+Inf": 10}, 0.5, 0.05),
        ({"0.1": 0, "0.2": 10, "+Inf": 10}, 0.5, 0.15),
        ({"0.1": 5, "0.2": 10, "+Inf": 10}, 0.95, 0.19),
        ({"0.1": 0, "10.0": 0, "+Inf": 4}, 0.95, 10.0),
        ({"10.0": 4, "2.5": 2, "+Inf": 4, "count": 4, "sum": 9}, 0.75, 6.25),
    ],
)
def test_quantile_lies_evenly_within_its_bucket(
    histogram: dict[str, float], q: float, expected: float | None
) -> None:
    found = quantile(histogram, q)
    assert found == (None if expected is None else pytest.approx(expected))


def test_quantile_of_the_sum_is_that_of_all_waits_and_no_mean_of_quantiles() -> None:
    quick = {"0.1": 90, "1.0": 90, "+Inf": 90}
    slow = {"0.1": 0, "1.0": 10, "+Inf": 10}
    one, two, fleet = figures(
        [Reading("a", 0.0, stats(10, 90, quick)), Reading("b", 0.0, stats(20, 10, slow, 4))]
    )
    assert [one.ttft_p95_ms, two.ttft_p95_ms] == pytest.approx([95, 955])
    assert fleet.ttft_p95_ms == pytest.approx(550)
    assert (fleet.turns, fleet.sessions, fleet.answering, fleet.waiting) == (100, 5, 4, 2)
    assert (fleet.experts, fleet.status) == ("2/4", "ok")


def test_figures_between_two_readings_are_of_the_interval_alone() -> None:
    before = Reading("a", 100.0, stats(50, 10, {"0.1": 10, "1.0": 10, "+Inf": 10}, turns_failed=1))
    ahead = {"prefill_tokens_speculated": 30, "prefill_tokens_adopted": 15}
    after = Reading("a", 104.0, stats(54, 16, {"0.1": 10, "1.0": 16, "+Inf": 16}, turns_failed=3))
    assert after.stats is not None
    after.stats["totals"]["counters"] |= ahead
    (line,) = figures([after], [before])
    assert (line.turns, line.turns_per_s, line.failed) == (8, 2.0, 2)  # two of them failed
    assert line.ttft_p50_ms == pytest.approx(550)
    assert (line.prefilled_tokens, line.adopted) == (30, 0.5)


def test_figures_of_a_gateway_started_anew_are_since_its_start() -> None:
    before = Reading("a", 100.0, stats(50, 40, {"+Inf": 40}))
    (line,) = figures([Reading("a", 104.0, stats(2, 6, {"+Inf": 6}))], [before])
    assert (line.turns, line.over_s, line.turns_per_s) == (6, 2, 3.0)


def test_gateway_that_does_not_answer_keeps_its_line_and_the_sum_is_of_the_others() -> None:
    good = Reading("a", 1.0, stats(10, 5, {"+Inf": 5}))
    one, gone, fleet = figures([good, Reading("b", 1.0, error="nothing answers at b")])
    assert (gone.known, gone.status) == (False, "nothing answers at b")
    assert (fleet.turns, fleet.status, one.known) == (5, "1 of 2 answer", True)
