"""How right routes are on the held-out prompts, typed word by word; and what that says in numbers.

A prompt of n words gives n estimates. "Half" is the first estimate with at least half of the words.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ...orchestrator.routing.dataset import DOMAINS, Prompt, prefixes
from ...orchestrator.routing.estimate import RouteEstimate
from ...orchestrator.routing.model import RouteModel
from ...orchestrator.routing.router import MOST_ASKING, Router, TextEmbedding
from ...orchestrator.routing.selection import Candidate
from ..figures.answer import Json, Number
from ..figures.stats import p50, share

BINS = 10
SHARES = tuple(part / 10 for part in range(1, 11))
AT_A_TIME = MOST_ASKING


@dataclass(frozen=True, slots=True)
class Routed:
    """One prompt with the estimate after each of its words."""

    prompt: Prompt
    estimates: tuple[RouteEstimate, ...]

    def right(self, part: float) -> bool:
        """Return whether the first estimate with at least this part of the words is right."""
        at = math.ceil(part * len(self.estimates)) - 1
        return self.estimates[max(0, at)].domain == self.prompt.domain

    @property
    def stable_at(self) -> int | None:
        """Index of the first stable estimate; None if there is none."""
        return next((at for at, one in enumerate(self.estimates) if one.stable), None)


def built_in_router(embedding: TextEmbedding, model: RouteModel) -> Router:
    """Return the router as shipped: one expert per built-in domain, no examples of its own."""
    candidates = [Candidate(domain, domain, 0) for domain in DOMAINS]
    return Router(embedding, {}, candidates, "general", model=model)


async def route_all(router: Router, prompts: Sequence[Prompt]) -> list[Routed]:
    """Return every prompt routed word by word; some at a time, as sessions share the encoder."""
    found = []
    for prompt in prompts:
        parts = prefixes(prompt.text)
        estimates: list[RouteEstimate] = []
        for start in range(0, len(parts), AT_A_TIME):
            some = parts[start : start + AT_A_TIME]
            estimates += await asyncio.gather(*(router.estimate(part) for part in some))
        found.append(Routed(prompt, tuple(estimates)))
    return found


def quality(routed: Sequence[Routed]) -> tuple[Json, dict[str, Number]]:
    """Return the details and the summary of held-out prompts."""
    fired = [(one, at) for one in routed if (at := one.stable_at) is not None]
    lasted = [one.estimates[at].expert == one.estimates[-1].expert for one, at in fired]
    truly = [one.estimates[at].domain == one.prompt.domain for one, at in fired]
    early = [ok for ok, (one, at) in zip(lasted, fired, strict=True) if at + 1 < len(one.estimates)]
    at_share = [
        1.0 if (at := one.stable_at) is None else (at + 1) / len(one.estimates) for one in routed
    ]
    by_share = {
        f"{part:.1f}": share(sum(o.right(part) for o in routed), len(routed)) for part in SHARES
    }
    whole = [(one.estimates[-1].confidence, one.right(1.0)) for one in routed]
    every = [(e.confidence, e.domain == one.prompt.domain) for one in routed for e in one.estimates]
    details: Json = {
        "prompts": len(routed),
        "accuracy_by_share_of_words": by_share,
        "accuracy_by_language": _by_language(routed),
        "confusion": _confusion(routed),
        "reliability": {"full": _reliability(whole), "every_word": _reliability(every)},
        "stable": {
            "fired_share": share(len(fired), len(routed)),
            "fired_before_the_end_share": share(len(early), len(routed)),
            "correct_of_those_before_the_end": share(sum(early), len(early)),
            "domain_right_share": share(sum(truly), len(truly)),
            "share_of_words": at_share,
        },
    }
    summary = {
        "routing.accuracy.full": by_share["1.0"],
        "routing.accuracy.half": by_share["0.5"],
        "routing.stable.correct_share": share(sum(lasted), len(lasted)),
        "routing.stable.median_share_of_input": p50(at_share),
        "routing.ece": _ece(whole),
        "routing.ece.every_word": _ece(every),
    }
    return details, summary


def _by_language(routed: Sequence[Routed]) -> Json:
    found = {}
    for name in ("en", "es", "other"):
        some = [o for o in routed if (o.prompt.language if name != "other" else _other(o)) == name]
        found[name] = {
            "prompts": len(some),
            "full": share(sum(one.right(1.0) for one in some), len(some)),
            "half": share(sum(one.right(0.5) for one in some), len(some)),
        }
    return found


def _other(one: Routed) -> str:
    return "" if one.prompt.language in ("en", "es") else "other"


def _confusion(routed: Sequence[Routed]) -> dict[str, dict[str, int]]:
    """Return how many prompts of each domain (outer) went to each (inner), whole text."""
    pairs = Counter((one.prompt.domain, one.estimates[-1].domain) for one in routed)
    return {true: {to: pairs[true, to] for to in DOMAINS} for true in DOMAINS}


def _bins(pairs: Sequence[tuple[float, bool]]) -> list[list[tuple[float, bool]]]:
    found: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for confidence, right in pairs:
        found[min(BINS - 1, int(confidence * BINS))].append((confidence, right))
    return found


def _reliability(pairs: Sequence[tuple[float, bool]]) -> list[Json]:
    return [
        {
            "from": at / BINS,
            "count": len(some),
            "confidence": sum(c for c, _ in some) / len(some) if some else None,
            "right": share(sum(right for _, right in some), len(some)),
        }
        for at, some in enumerate(_bins(pairs))
    ]


def _ece(pairs: Sequence[tuple[float, bool]]) -> Number:
    """Return the expected calibration error over ten equal bins (Guo et al. 2017)."""
    if not pairs:
        return None
    gaps = (
        abs(sum(c for c, _ in some) - sum(right for _, right in some))
        for some in _bins(pairs)
        if some
    )
    return sum(gaps) / len(pairs)
