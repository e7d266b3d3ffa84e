from __future__ import annotations

import pytest

from livemind.benchmarks.figures.stats import quantile, ratio, share


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [([3.0], 0.95, 3.0), ([4.0, 1.0, 3.0, 2.0], 0.5, 2.5), ([0.0, 10.0], 0.95, 9.5)],
    ids=["one", "unsorted-even", "interpolated"],
)
def test_quantile_known_values_match(values: list[float], q: float, expected: float) -> None:
    assert quantile(values, q) == pytest.approx(expected)


def test_unknown_is_none_never_zero() -> None:
    assert quantile([], 0.5) is None
    assert ratio(None, 2.0) is None
    assert ratio(1.0, 0.0) is None
    assert share(0, 0) is None
    assert share(0, 4) == 0.0


def test_quantile_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match="q: got 95"):
        quantile([1.0], 95)
