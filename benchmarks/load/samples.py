"""The turns behind each ratio of a ``load`` summary: speculation on over off, highest rung."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..figures.answer import Json
from ..figures.estimates import Counts, Floats, Sample, quantile_sample

LEVELS = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_MODES = ("on", "off")
Place = tuple[int, int, int, int]


def samples(content: Json) -> dict[str, Sample]:
    """Return the sample of every summary key that turns can tell; a turn is a unit."""
    top = max((row["sessions"] for row in content["turns"]), default=None)
    rows = [row for row in completed(content["turns"]) if row["sessions"] == top]
    found = {f"load.on_over_off.{level}": _over(rows, q) for level, q in LEVELS.items()}
    pairs = both(rows)
    turns = quantile_sample(list(pairs), list(pairs.values()), 0.5)
    return {**found, "load.on_over_off.turns_p50": turns}


def completed(rows: Iterable[Json]) -> list[Json]:
    """Return the turns that have a time to first token."""
    return [row for row in rows if row["outcome"] == "completed" and row["ttft_ms"] is not None]


def both(rows: Iterable[Json]) -> dict[Place, float]:
    """Return the time on over that off of every turn of one rung that has both, by its place."""
    times: dict[str, dict[Place, float]] = {mode: {} for mode in _MODES}
    for row in rows:
        if row["ttft_ms"] > 0:
            times[row["mode"]][_place(row)] = row["ttft_ms"]
    on, off = (times[mode] for mode in _MODES)
    return {one: on[one] / off[one] for one in sorted(on.keys() & off.keys())}


def _place(row: Json) -> Place:
    """Return what names a turn; the same in both modes and in every run of the same seed."""
    return row["sessions"], row["round"], row["user"], row["turn"]


def _over(rows: Sequence[Json], q: float) -> Sample:
    """Quantile with speculation over quantile without."""
    columns = {mode: [n for n, row in enumerate(rows) if row["mode"] == mode] for mode in _MODES}
    halves = {
        mode: quantile_sample(at, [rows[n]["ttft_ms"] for n in at], q)
        for mode, at in columns.items()
    }

    def estimate(counts: Counts) -> Floats:
        on, off = (
            halves[mode].estimate(counts[:, columns[mode]])
            if columns[mode]
            else np.full(len(counts), np.nan)
            for mode in _MODES
        )
        found: Floats = on / off
        return found

    return Sample([_place(row) for row in rows], estimate, halves["on"].needed)
