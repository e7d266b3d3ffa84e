"""Where a text points: what the router says of it. A value."""

from __future__ import annotations

from msgspec import Struct


class RouteEstimate(Struct, frozen=True):
    """Where a text points.

    Attributes:
        confidence: calibrated probability of ``domain``; 0 = not estimated, the default expert.
        alternatives: (expert, probability) of the other domains, best first.
        margin: confidence minus the best other domain's.
        final: P(the finished text is routed here as well); None = unknown (no trained model).
        stable: ``final`` is so high that the first such estimate of a turn is meant to be right in
            98.5 %; what it reached on other text is in docs/routing.md.
        reasons: what decided or was disregarded, beside the likeness of the text; for people.
        ms: how long a session waited for it; None = nobody measured.
        provisional: made in haste; a session asks again for the text that is committed.
    """

    expert: str
    domain: str
    confidence: float
    alternatives: tuple[tuple[str, float], ...] = ()
    margin: float = 0.0
    final: float | None = None
    stable: bool = False
    reasons: tuple[str, ...] = ()
    ms: float | None = None
    provisional: bool = False
