"""The few statistics that reports use. Unknown is None, never 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def quantile(values: Sequence[float], q: float) -> float | None:
    """Return the q-quantile (0 <= q <= 1) with linear interpolation; None without values."""
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"q: got {q}, need 0..1")
    return float(np.quantile(values, q)) if values else None


def p50(values: Sequence[float]) -> float | None:
    """Return the median; None without values."""
    return quantile(values, 0.5)


def p95(values: Sequence[float]) -> float | None:
    """Return the 95th percentile; None without values."""
    return quantile(values, 0.95)


def ratio(value: float | None, base: float | None) -> float | None:
    """Return value / base; None when one is unknown or the base is 0."""
    return None if value is None or not base else value / base


def share(part: int, whole: int) -> float | None:
    """Return part / whole; None when the whole is empty."""
    return part / whole if whole else None


def mean(values: Sequence[float]) -> float | None:
    """Return the mean; None without values."""
    return sum(values) / len(values) if values else None
