"""Figures of the load benchmark from its turns, as the report keeps them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..figures.answer import Json, Number
from ..figures.estimates import ci95
from ..figures.measure import distribution
from ..figures.stats import ratio
from .samples import LEVELS, both, completed, samples
from .sessions import MODES, LadderResult, Mode


def rungs(result: LadderResult) -> list[Json]:
    """Return one object per number of sessions that was run."""
    rows = result.rows()
    reached = sorted({row["sessions"] for row in rows})
    return [_rung(result, [row for row in rows if row["sessions"] == one]) for one in reached]


def summary(result: LadderResult) -> dict[str, Number]:
    """Return the keys of DESIGN §6 and what stands behind them.

    Saturation is the highest rung that was run in both modes.
    """
    found = rungs(result)
    last = found[-1] if found else None
    at_top = last["on_over_off"] if last else {}
    worst = [one["on_over_off"]["p95"] for one in found if one["on_over_off"]["p95"] is not None]
    return {
        "load.on_over_off.p95": at_top.get("p95"),
        "load.on_over_off.p50": at_top.get("p50"),
        "load.on_over_off.turns_p50": at_top.get("turns_p50"),
        "load.on_over_off.p95.worst_rung": max(worst, default=None),
        "load.saturation_sessions": float(last["sessions"]) if last else None,
        "load.bend_sessions.off": _bend(found, "off", result.plan.bend_factor),
        "load.bend_sessions.on": _bend(found, "on", result.plan.bend_factor),
        "load.failed": float(sum(one.answer.outcome != "completed" for one in result.turns)),
    }


def _rung(result: LadderResult, rows: Sequence[Json]) -> Json:
    behind, turns = samples({"turns": rows}), list(both(completed(rows)).values())
    over = {name: behind[f"load.on_over_off.{name}"].value() for name in (*LEVELS, "turns_p50")}
    return {
        "sessions": rows[0]["sessions"],
        "modes": {mode: _mode(result, rows, mode) for mode in MODES},
        "on_over_off": {**over, "turns_p50_ci95": ci95(turns, result.plan.seed)},
        "paired_turns": len(turns),
    }


def _mode(result: LadderResult, rows: Sequence[Json], mode: Mode) -> Json:
    turns = [row for row in rows if row["mode"] == mode]
    done = [row for row in turns if row["outcome"] == "completed"]
    rung = rows[0]["sessions"], mode
    span_s = sum(s for (n, _, which), s in result.spans_s.items() if (n, which) == rung)
    ttft = [row["ttft_ms"] for row in completed(turns)]
    tokens = sum(row["completion_tokens"] or 0 for row in done)
    return {
        "asked": len(turns),
        "outcomes": dict(Counter(row["outcome"] for row in turns)),
        "errors": sorted({row["error"] for row in turns if row["error"] is not None}),
        "ttft_ms": distribution(ttft),
        "turns_per_s": ratio(float(len(done)), span_s),
        "tokens_per_s": ratio(float(tokens), span_s),
        "drafts_adopted": sum(bool(row["draft_adopted"]) for row in done),
    }


def _bend(found: list[Json], mode: Mode, factor: float) -> Number:
    """Return the first number of sessions whose p95 is ``factor`` times the first rung's."""
    waits = [(one["sessions"], one["modes"][mode]["ttft_ms"]["p95"]) for one in found]
    if not waits or waits[0][1] is None:
        return None
    limit = factor * waits[0][1]
    return next((float(n) for n, p95 in waits if p95 is not None and p95 > limit), None)
