"""Figures of the gateway benchmark from its measurements. Pure.

Differences and ratios are taken within a round and way, then the median over rounds. The headline
is the worse of the two ways to ask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..figures.answer import Json, Number
from ..figures.stats import p50, quantile, ratio
from ..peers.programs import told
from .run import (
    AIMS,
    ARMS,
    BARE,
    DIRECT,
    LIVEMIND,
    PEER,
    POLLING,
    WAYS,
    Aim,
    GatewayResult,
    Measurement,
    Way,
)


def summary(measurements: Sequence[Measurement]) -> dict[str, Number]:
    """Return the keys of DESIGN §6, and the same per way and for the peer."""
    added = {way: _added(measurements, LIVEMIND, way) for way in WAYS}
    over = {way: _rate_ratio(measurements, PEER, way) for way in WAYS}
    found: dict[str, Number] = {
        "gateway.added_ms.p50": _worst(list(added.values()), max),
        "gateway.rps_over_litellm": _worst(list(over.values()), min),
    }
    for way in WAYS:
        found[f"gateway.added_ms.p50.{way}"] = added[way]
        found[f"gateway.rps_over_litellm.{way}"] = over[way]
        found[f"gateway.litellm_added_ms.p50.{way}"] = _added(measurements, PEER, way)
        found[f"gateway.polling_added_ms.p50.{way}"] = _added(measurements, POLLING, way)
        found[f"gateway.polling_rps.{way}"] = _rate(measurements, POLLING, way)
        found[f"gateway.bare_added_ms.p50.{way}"] = _added(measurements, BARE, way)
        found[f"gateway.rps_over_bare.{way}"] = _rate_ratio(measurements, BARE, way)
        found[f"gateway.added_over_bare.p50.{way}"] = ratio(
            added[way], _added(measurements, BARE, way)
        )
        found[f"gateway.bare_rps.{way}"] = _rate(measurements, BARE, way)
        found[f"gateway.rps.{way}"] = _rate(measurements, LIVEMIND, way)
        found[f"gateway.litellm_rps.{way}"] = _rate(measurements, PEER, way)
        found[f"gateway.generator_rps.{way}"] = _rate(measurements, DIRECT, way)
    return found


def report(result: GatewayResult) -> Json:
    """Return the report's part on the gateway."""
    return {
        "users": result.plan.users,
        "fake_latency_ms": result.plan.latency_ms,
        "fake_itl_ms": result.plan.itl_ms,
        "tokens": result.plan.tokens,
        "cores": {"proxy": result.cores.proxy, "generator_and_fake": result.cores.load},
        "generator_processes": 1,
        **told(result.peer),
        "arms": [
            _figures(result.measurements, arm, way, aim)
            for aim in AIMS
            for way in WAYS
            for arm in ARMS
            if _of(result.measurements, arm, way, aim)
        ],
        "measurements": [one.row() for one in result.measurements],
    }


def _figures(measurements: Sequence[Measurement], arm: str, way: Way, aim: Aim) -> Json:
    found = _of(measurements, arm, way, aim)
    ttft = [ms for one in found for ms in one.result.ttft_ms]
    total = [ms for one in found for ms in one.result.total_ms]
    errors: dict[str, int] = {}
    for one in found:
        for message, count in one.result.errors.items():
            errors[message] = errors.get(message, 0) + count
    missing = sum(one.result.missing for one in found)
    levels = (0.5, 0.95, 0.99)
    return {
        "arm": arm,
        "way": way,
        "aim": aim,
        "answers": len(total),
        "missing": missing,
        "errors": errors,
        "requests_per_s": p50([one.requests_per_s for one in found]),
        "ttft_ms": {f"p{100 * q:.0f}": _wait(ttft, missing, q) for q in levels},
        "total_ms": {f"p{100 * q:.0f}": _wait(total, missing, q) for q in levels},
        "proxy_core_busy": p50([one.proxy_core_busy for one in found if one.proxy_core_busy]),
        "load_core_busy": p50([one.load_core_busy for one in found if one.load_core_busy]),
    }


def _added(measurements: Sequence[Measurement], arm: str, way: Way) -> Number:
    """Return the median over rounds of p50 through the proxy less p50 direct, milliseconds."""
    direct = {one.round: _time(one) for one in _of(measurements, DIRECT, way, "latency")}
    differences = []
    for one in _of(measurements, arm, way, "latency"):
        through, straight = _time(one), direct.get(one.round)
        if through is not None and straight is not None:
            differences.append(through - straight)
    return p50(differences)


def _time(one: Measurement) -> Number:
    """Return the median wait of a measurement: first text of a stream, else the whole answer."""
    waits = one.result.ttft_ms if one.way == "stream" else one.result.total_ms
    return _wait(waits, one.result.missing, 0.5)


def _wait(waits: Sequence[float], missing: int, q: float) -> Number:
    """Return a quantile where the missing answers are slower than all; None if it is one's."""
    asked = len(waits) + missing
    if math.ceil(q * (asked - 1)) >= len(waits):
        return None
    return quantile([*waits, *[max(waits)] * missing], q)


def _rate_ratio(measurements: Sequence[Measurement], other: str, way: Way) -> Number:
    """Return the median over rounds of our rate over that of another arm."""
    peer = {one.round: one.requests_per_s for one in _of(measurements, other, way, "throughput")}
    ratios = [
        ratio(one.requests_per_s, peer.get(one.round))
        for one in _of(measurements, LIVEMIND, way, "throughput")
    ]
    return p50([value for value in ratios if value is not None])


def _rate(measurements: Sequence[Measurement], arm: str, way: Way) -> Number:
    return p50([one.requests_per_s for one in _of(measurements, arm, way, "throughput")])


def _of(measurements: Sequence[Measurement], arm: str, way: Way, aim: Aim) -> list[Measurement]:
    return [one for one in measurements if (one.arm, one.way, one.aim) == (arm, way, aim)]


def _worst(values: list[Number], choose: Callable[[list[float]], float]) -> Number:
    """Return the worst of both ways; None unless both are known."""
    known = [value for value in values if value is not None]
    return choose(known) if known and len(known) == len(values) else None
