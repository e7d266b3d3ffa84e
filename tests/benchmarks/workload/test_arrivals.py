from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from livemind.benchmarks.workload.arrivals import Arrivals


def test_starts_constant_rate_are_evenly_spaced() -> None:
    assert Arrivals("constant", rate_per_s=4.0).starts_s(3, random.Random(1)) == (0.0, 0.25, 0.5)


def test_starts_poisson_have_the_rate_and_the_spread_of_exponential_gaps() -> None:
    starts = Arrivals("poisson", rate_per_s=5.0).starts_s(4000, random.Random(1))
    gaps = [b - a for a, b in itertools.pairwise(starts)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(0.2, rel=0.05)
    assert spread == pytest.approx(mean, rel=0.05)  # a constant rate would have none


def test_starts_closed_loop_all_begin_at_once() -> None:
    assert Arrivals("closed", concurrency=2).starts_s(3, random.Random(1)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("arrivals", "overlap"),
    [(Arrivals(), False), (Arrivals(concurrency=2), True), (Arrivals("constant", 1, 1.0), True)],
    ids=["alone", "two", "open"],
)
def test_overlap_is_told(arrivals: Arrivals, overlap: bool) -> None:
    assert arrivals.overlap is overlap


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"concurrency": 0}, "--concurrency: got 0, need >= 1"),
        ({"rate_per_s": 1.0}, "--rate: only with --arrivals poisson or constant"),
        ({"kind": "poisson"}, "--rate: got None"),
        ({"kind": "constant", "rate_per_s": 0.0}, "--rate: got 0.0"),
        ({"kind": "poisson", "rate_per_s": 1.0, "concurrency": 2}, "--concurrency: only with"),
    ],
    ids=["concurrency", "rate", "no-rate", "zero", "both"],
)
def test_impossible_arrivals_are_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Arrivals(**given)
