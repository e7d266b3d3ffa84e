"""How reports write a number for people."""

from __future__ import annotations


def short(value: float) -> str:
    """Return a number with the three figures that count, without an exponent where that reads."""
    size = abs(value)
    if size and (size < 0.0001 or size >= 1e6):
        return f"{value:.2e}"
    if 0 < size < 1:
        return f"{value:#.3g}"
    digits = 0 if size >= 100 or not size else 1 if size >= 10 else 2
    return f"{value:,.{digits}f}"
