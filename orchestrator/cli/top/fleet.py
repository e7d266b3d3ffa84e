"""What gateways tell in ``/stats``, what that adds up to, and the figures of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

Json: TypeAlias = dict[str, Any]
SPECULATED = ("prefill", "draft")


class Reading(Struct, frozen=True):
    """One gateway at one moment.

    Attributes:
        at_s: when it was read, on a clock that does not jump.
        stats: what it told; None = it did not answer, for the reason ``error``.
    """

    url: str
    at_s: float
    stats: Json | None = None
    error: str | None = None


class Figures(Struct, frozen=True):
    """A line of the view; None = not known, for example because there was none of it.

    Attributes:
        name: a gateway's URL, or ``all``.
        status: what the gateway says of itself, or why it did not answer.
        over_s: the time in which turns, tokens and waits were counted.
        sessions, answering, waiting: now; answers that wait are among those in progress.
        adopted: share of what was computed ahead that answers used.
        failed: turns that failed, and requests that ended with a status from 500 on.
        experts: now loaded, of those that are configured.
    """

    name: str
    status: str
    over_s: float
    sessions: int
    answering: int
    waiting: int
    turns: int
    turns_per_s: float | None
    failed: int
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    route_p50_ms: float | None
    route_p95_ms: float | None
    prefilled_tokens: int
    drafted_tokens: int
    adopted: float | None
    experts: str

    @property
    def known(self) -> bool:
        """Whether anything was read."""
        return self.over_s > 0


def figures(now: Sequence[Reading], before: Sequence[Reading] = ()) -> list[Figures]:
    """Return a line for each gateway, and one for all if there are several.

    Args:
        now: one reading a gateway.
        before: earlier ones, over which the difference is taken; those of a gateway that has been
            started anew do not count. Without one it is everything since its start.
    """
    earlier = {one.url: one for one in before}
    told = [(one, *_since(one, earlier.get(one.url))) for one in now]
    lines = [_line(one.url, _status(one), [one], totals, over) for one, totals, over in told]
    if len(now) > 1:
        reached = [one for one in now if one.stats is not None]
        totals = summed(totals for _, totals, _ in told)
        status = "ok" if len(reached) == len(now) else f"{len(reached)} of {len(now)} answer"
        lines.append(_line("all", status, reached, totals, max(over for *_, over in told)))
    return lines


def summed(several: Iterable[Mapping[str, Any]]) -> Json:
    """Return objects of numbers added up, number by number."""
    whole: Json = {}
    for one in several:
        for name, value in one.items():
            if isinstance(value, Mapping):
                whole[name] = summed([whole.get(name, {}), value])
            else:
                whole[name] = whole.get(name, 0) + value
    return whole


def less(later: Mapping[str, Any], earlier: Mapping[str, Any]) -> Json:
    """Return what was added between two readings, number by number."""
    return {
        name: less(value, earlier.get(name, {}))
        if isinstance(value, Mapping)
        else value - earlier.get(name, 0)
        for name, value in later.items()
    }


def quantile(histogram: Mapping[str, float], q: float) -> float | None:
    """Return a quantile of a histogram, in its unit; None of an empty one.

    Within a bucket values are taken to lie evenly, and what is above the last limit to be that, as
    Prometheus' ``histogram_quantile`` has it.

    Args:
        histogram: how many were no longer, by upper limit (``+Inf`` included); others are ignored.
        q: 0 to 1.
    """
    buckets = sorted((float(le), n) for le, n in histogram.items() if le not in ("count", "sum"))
    if not buckets or buckets[-1][1] <= 0:
        return None
    rank = q * buckets[-1][1]
    low, below = 0.0, 0.0
    for limit, count in buckets:
        if count >= rank and count > below:
            if limit == float("inf"):
                return low
            return low + (limit - low) * max(0.0, rank - below) / (count - below)
        low, below = limit, count
    return low


def _since(one: Reading, earlier: Reading | None) -> tuple[Json, float]:
    """Return what a gateway counted, and in how many seconds."""
    if one.stats is None:
        return {}, 0.0
    totals, up_s = one.stats.get("totals", {}), one.stats["server"]["uptime_s"]
    if earlier is None or earlier.stats is None or earlier.stats["server"]["uptime_s"] > up_s:
        return totals, up_s
    return less(totals, earlier.stats.get("totals", {})), one.at_s - earlier.at_s


def _status(one: Reading) -> str:
    return str(one.stats["status"]) if one.stats is not None else one.error or "no answer"


def _line(
    name: str, status: str, readings: Sequence[Reading], totals: Json, over_s: float
) -> Figures:
    stats = [one.stats for one in readings if one.stats is not None]
    counters = totals.get("counters", {})
    turns = sum(counters.get(f"turns_{how}", 0) for how in ("completed", "cancelled", "failed"))
    ahead = {
        kind: {stage: counters.get(f"{stage}_tokens_{kind}", 0) for stage in SPECULATED}
        for kind in ("speculated", "adopted")
    }
    speculated, adopted = (sum(ahead[kind].values()) for kind in ("speculated", "adopted"))
    ttft, route = (_waits(totals, what) for what in ("ttft_seconds", "route_seconds"))
    loaded, available = (_sum(stats, f"models_{what}") for what in ("loaded", "available"))
    return Figures(
        name=name,
        status=status,
        over_s=round(over_s, 3),
        sessions=_sum(stats, "sessions"),
        answering=_sum(stats, "answering"),
        waiting=_sum(stats, "waiting"),
        turns=turns,
        turns_per_s=turns / over_s if over_s > 0 else None,
        failed=counters.get("turns_failed", 0) + counters.get("requests_failed", 0),
        ttft_p50_ms=_ms(quantile(ttft, 0.5)),
        ttft_p95_ms=_ms(quantile(ttft, 0.95)),
        route_p50_ms=_ms(quantile(route, 0.5)),
        route_p95_ms=_ms(quantile(route, 0.95)),
        prefilled_tokens=ahead["speculated"]["prefill"],
        drafted_tokens=ahead["speculated"]["draft"],
        adopted=adopted / speculated if speculated else None,
        experts=f"{loaded}/{available}",
    )


def _sum(stats: Sequence[Json], name: str) -> int:
    return sum(one[name] for one in stats)


def _waits(totals: Json, what: str) -> Json:
    """Return the histogram of all experts together."""
    return summed(totals.get(what, {}).values())


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
