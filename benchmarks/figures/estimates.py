"""Statistics that can be drawn again: the bootstrap over conversations, of one run or of two.

A *unit* is what is drawn: a conversation, with all its values. Every estimate takes how often each
value was drawn and computes all rounds at once.
``scipy.stats.bootstrap`` hands out places of single values: units would have to be counted again.
Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13
(percentile intervals, units that belong together).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import ceil, log
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Estimate = Callable[[Counts], Floats]
ROUNDS = 2000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Sample:
    """The values behind one number.

    Attributes:
        units: the unit of each value, (n,).
        estimate: from counts int64 (rounds, n) to the statistic (rounds,); NaN = not known.
        needed: below this many units there is no interval, see ``units_needed``.
    """

    units: Sequence[Hashable]
    estimate: Estimate
    needed: int

    def value(self) -> float | None:
        """Return the statistic of the values as they are; None when it is not known."""
        if not self.units:
            return None
        found = float(self.estimate(np.ones((1, len(self.units)), dtype=np.int64))[0])
        return None if np.isnan(found) else found

    def distinct(self) -> list[Hashable]:
        """Return the units, each once, in order."""
        return list(dict.fromkeys(self.units))


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval, over ``units`` units."""

    low: float
    high: float
    units: int


def quantile_sample(units: Sequence[Hashable], values: Sequence[float], q: float) -> Sample:
    """Return a sample whose statistic is the q-quantile with linear interpolation."""
    order = np.argsort(np.asarray(values, dtype=np.float64), kind="stable")
    ordered = np.asarray(values, dtype=np.float64)[order]

    def estimate(counts: Counts) -> Floats:
        reached = np.cumsum(counts[:, order], axis=1)
        total = reached[:, -1]
        position = q * np.maximum(total - 1, 0)
        low = np.floor(position).astype(np.int64)
        high = np.minimum(low + 1, np.maximum(total - 1, 0))
        last = len(ordered) - 1
        at_low, at_high = (
            ordered[np.minimum((reached <= place[:, None]).sum(axis=1), last)]
            for place in (low, high)
        )
        found: Floats = at_low + (at_high - at_low) * (position - low)
        found[total == 0] = np.nan
        return found

    return Sample(units, estimate, units_needed(q))


def ratio_sample(
    units: Sequence[Hashable], parts: Sequence[float], wholes: Sequence[float]
) -> Sample:
    """Return a sample whose statistic is sum(parts) / sum(wholes); wholes of 1 make it a mean."""
    above, below = np.asarray(parts, dtype=np.float64), np.asarray(wholes, dtype=np.float64)

    def estimate(counts: Counts) -> Floats:
        denominator = counts @ below
        known = denominator != 0
        found: Floats = np.full(len(counts), np.nan)
        found[known] = (counts @ above)[known] / denominator[known]
        return found

    return Sample(units, estimate, units_needed(0.5))


def units_needed(q: float) -> int:
    """Return how many values must be there before a 95 % interval of a q-quantile can exist.

    The smallest and the largest of n values hold the quantile between them with probability
    1 - q^n - (1-q)^n; n is the first for which that is 0.95: 6 for the median, 59 for p95.
    Source: Wilks, "Determination of sample sizes for setting tolerance limits" (1941).

    Raises:
        ValueError: q is not between 0 and 1; the extremes have no such interval.
    """
    if not 0.0 < q < 1.0:
        raise ValueError(f"q: got {q}, need 0 < q < 1")
    far = max(q, 1.0 - q)
    n = ceil(log(1.0 - LEVEL) / log(far))
    while far**n + (1.0 - far) ** n > 1.0 - LEVEL:
        n += 1
    return n


def interval(sample: Sample, seed: int = 0) -> Interval | None:
    """Return the interval of one run's number; None with fewer units than needed.

    None as well where every draw is alike (15 of 15 answers equal): the bootstrap would claim to
    know it exactly.
    """
    units = sample.distinct()
    if len(units) < sample.needed:
        return None
    draws = _draws(len(units), np.random.default_rng(seed))
    found = _percentiles(sample.estimate(_per_value(sample, units, draws)), len(units))
    return None if found is None or found.low == found.high else found


def ci95(
    values: Sequence[float], seed: int, statistic: Literal["p50", "mean"] = "p50"
) -> tuple[float, float] | None:
    """Return the interval of the median or the mean of values; None below three of them.

    Pairs stay together when ``values`` are paired ratios: a pair is one value.
    """
    n = len(values)
    if n < 3:
        return None
    median, mean = quantile_sample(range(n), values, 0.5), ratio_sample(range(n), values, [1.0] * n)
    draws = _draws(n, np.random.default_rng(seed))
    found = _percentiles((median if statistic == "p50" else mean).estimate(draws), n)
    return None if found is None else (found.low, found.high)


def difference(a: Sample, b: Sample, *, paired: bool, seed: int = 0) -> Interval | None:
    """Return the interval of b - a; None with fewer units than needed.

    Paired: a round draws the same units in both; only units that both have take part.
    Otherwise each run is drawn on its own.
    """
    rng = np.random.default_rng(seed)
    needed = max(a.needed, b.needed)
    if paired:
        common = shared_units(a, b)
        if len(common) < needed:
            return None
        draws = _draws(len(common), rng)
        rounds = [sample.estimate(_per_value(sample, common, draws)) for sample in (a, b)]
        return _percentiles(rounds[1] - rounds[0], len(common))
    sizes, rounds = [], []
    for sample in (a, b):
        units = sample.distinct()
        if len(units) < needed:
            return None
        sizes.append(len(units))
        rounds.append(sample.estimate(_per_value(sample, units, _draws(len(units), rng))))
    return _percentiles(rounds[1] - rounds[0], min(sizes))


def shared_units(a: Sample, b: Sample) -> list[Hashable]:
    """Return the units of a that b has as well, in order."""
    there = set(b.units)
    return [unit for unit in a.distinct() if unit in there]


def _draws(units: int, rng: np.random.Generator) -> Counts:
    return rng.multinomial(units, [1.0 / units] * units, size=ROUNDS).astype(np.int64)


def _per_value(sample: Sample, units: Sequence[Hashable], draws: Counts) -> Counts:
    """Return how often each value is drawn; values of other units never are."""
    place = {unit: column for column, unit in enumerate(units)}
    padded = np.concatenate([draws, np.zeros((len(draws), 1), dtype=np.int64)], axis=1)
    counts: Counts = padded[:, [place.get(unit, len(units)) for unit in sample.units]]
    return counts


def _percentiles(rounds: Floats, units: int) -> Interval | None:
    known = rounds[~np.isnan(rounds)]
    if len(known) < ROUNDS / 2:
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), units)
