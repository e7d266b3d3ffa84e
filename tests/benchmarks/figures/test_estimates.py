from __future__ import annotations

import random

import numpy as np
import pytest

from livemind.benchmarks.figures.estimates import (
    ci95,
    difference,
    interval,
    quantile_sample,
    ratio_sample,
    units_needed,
)
from livemind.benchmarks.figures.stats import quantile


def _values(n: int, seed: int = 1) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(100.0, 15.0) for _ in range(n)]


@pytest.mark.parametrize("q", [0.05, 0.5, 0.95, 0.99])
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_quantile_sample_undrawn_is_the_quantile_of_the_report(n: int, q: float) -> None:
    values = _values(n)
    assert quantile_sample(range(n), values, q).value() == pytest.approx(quantile(values, q))


def test_quantile_sample_drawn_is_the_quantile_of_the_values_repeated() -> None:
    values, rng = _values(9), np.random.default_rng(3)
    counts = rng.multinomial(9, [1 / 9] * 9, size=50).astype(np.int64)
    found = quantile_sample(range(9), values, 0.95).estimate(counts)
    for drawn, row in zip(found, counts, strict=True):
        repeated = np.repeat(values, row).tolist()
        assert drawn == pytest.approx(quantile(repeated, 0.95))


def test_ratio_sample_without_a_whole_is_unknown() -> None:
    assert ratio_sample([1, 2], [1.0, 2.0], [0.0, 0.0]).value() is None
    assert ratio_sample([1, 2], [1.0, 3.0], [2.0, 2.0]).value() == 1.0
    assert quantile_sample([], [], 0.5).value() is None


@pytest.mark.parametrize(("q", "n"), [(0.5, 6), (0.95, 59), (0.99, 299), (0.05, 59)])
def test_units_needed_hold_the_quantile_at_95_percent(q: float, n: int) -> None:
    assert units_needed(q) == n
    assert interval(quantile_sample(range(n - 1), _values(n - 1), q)) is None
    assert interval(quantile_sample(range(n), _values(n), q)) is not None


@pytest.mark.parametrize("q", [0.0, 1.0, 1.5])
def test_units_needed_for_no_quantile_inside_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="need 0 < q < 1"):
        units_needed(q)


def test_interval_of_the_median_covers_the_truth_as_often_as_it_says() -> None:
    samples = [quantile_sample(range(40), _values(40, seed), 0.5) for seed in range(150)]
    found = [interval(sample) for sample in samples]
    covered = sum(one is not None and one.low <= 100.0 <= one.high for one in found)
    assert 0.90 <= covered / 150 <= 0.99


def test_interval_of_values_all_alike_is_unknown() -> None:
    assert interval(ratio_sample(range(15), [1.0] * 15, [1.0] * 15)) is None


def test_interval_turns_of_one_conversation_count_as_one_unit() -> None:
    values = _values(30)
    alone = interval(quantile_sample(range(30), values, 0.5))
    pretended = interval(quantile_sample(range(90), values * 3, 0.5))
    together = interval(quantile_sample([*range(30)] * 3, values * 3, 0.5))
    assert alone is not None
    assert together is not None
    assert pretended is not None
    assert together.units == 30
    width = alone.high - alone.low
    assert together.high - together.low == pytest.approx(width, rel=0.25)
    assert pretended.high - pretended.low < 0.75 * width


def test_difference_paired_sees_what_unpaired_cannot() -> None:
    before = _values(30)
    after = [1.02 * value for value in before]
    one, other = (quantile_sample(range(30), values, 0.5) for values in (before, after))
    paired, unpaired = (difference(one, other, paired=paired) for paired in (True, False))
    assert paired is not None
    assert unpaired is not None
    assert paired.low > 0.0
    assert unpaired.low < 0.0 < unpaired.high


def test_difference_paired_draws_only_units_of_both() -> None:
    one = quantile_sample(range(10), [1.0] * 10, 0.5)
    other = quantile_sample(range(4, 14), [2.0] * 6 + [900.0] * 4, 0.5)
    found = difference(one, other, paired=True)
    assert found is not None
    assert (found.low, found.high, found.units) == (1.0, 1.0, 6)
    assert difference(one, quantile_sample(range(5, 14), [2.0] * 9, 0.5), paired=True) is None


def test_ci95_interval_holds_the_median_and_is_seeded() -> None:
    values = [float(n) for n in range(1, 30)]
    interval = ci95(values, 1)
    assert interval is not None
    assert interval[0] < 15.0 < interval[1]
    assert interval == ci95(values, 1)


def test_ci95_two_values_is_unknown() -> None:
    assert ci95([1.0, 2.0], 1) is None
