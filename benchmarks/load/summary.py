"""Figures of the load benchmark from its turns. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ..figures.estimates import ci95
from ..figures.stats import p50, quantile, ratio
from .sessions import MODES, LadderResult, Mode, Turn, times

Json = dict[str, Any]
Number = float | None
LEVELS = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def rungs(result: LadderResult) -> list[Json]:
    """Return one object per number of sessions that was run."""
    reached = sorted({one.sessions for one in result.turns})
    return [_rung(result, sessions) for sessions in reached]


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


def _rung(result: LadderResult, sessions: int) -> Json:
    modes = {mode: _mode(result, sessions, mode) for mode in MODES}
    on, off = modes["on"]["ttft_ms"], modes["off"]["ttft_ms"]
    turns = _turn_ratios(result.turns, sessions)
    over = {level: ratio(on[level], off[level]) for level in LEVELS}
    interval = ci95(turns, result.plan.seed)
    return {
        "sessions": sessions,
        "modes": modes,
        "on_over_off": {**over, "turns_p50": p50(turns), "turns_p50_ci95": interval},
        "paired_turns": len(turns),
    }


def _mode(result: LadderResult, sessions: int, mode: Mode) -> Json:
    turns = [one for one in result.turns if (one.sessions, one.mode) == (sessions, mode)]
    done = [one.answer for one in turns if one.answer.outcome == "completed"]
    span_s = sum(s for (n, _, which), s in result.spans_s.items() if (n, which) == (sessions, mode))
    ttft = times(result.turns, sessions, mode)
    tokens = sum(answer.completion_tokens or 0 for answer in done)
    return {
        "asked": len(turns),
        "outcomes": dict(Counter(one.answer.outcome for one in turns)),
        "errors": sorted({one.answer.error for one in turns if one.answer.error is not None}),
        "ttft_ms": {level: quantile(ttft, q) for level, q in LEVELS.items()},
        "turns_per_s": ratio(float(len(done)), span_s),
        "tokens_per_s": ratio(float(tokens), span_s),
        "drafts_adopted": sum(bool(answer.draft_adopted) for answer in done),
    }


def _turn_ratios(turns: Iterable[Turn], sessions: int) -> list[float]:
    """Return TTFT on over off of every turn that was completed in both modes."""
    found: dict[Mode, dict[tuple[int, int, int, int], float]] = {"on": {}, "off": {}}
    for one in turns:
        ttft_ms = one.answer.ttft_ms
        if one.sessions == sessions and one.answer.outcome == "completed" and ttft_ms:
            found[one.mode][one.place] = ttft_ms
    both = found["on"].keys() & found["off"].keys()
    return [found["on"][place] / found["off"][place] for place in sorted(both)]


def _bend(found: list[Json], mode: Mode, factor: float) -> Number:
    """Return the first number of sessions whose p95 is ``factor`` times the first rung's."""
    first = found[0]["modes"][mode]["ttft_ms"]["p95"] if found else None
    for one in found:
        p95 = one["modes"][mode]["ttft_ms"]["p95"]
        if first is not None and p95 is not None and p95 > factor * first:
            return float(one["sessions"])
    return None
