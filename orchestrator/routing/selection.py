"""Which expert a text goes to, once it is known how likely each domain is.

Owns the rules between the configured experts: who can take the message at all, what breaks ties,
and when a conversation stays where it is. Keeps no state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .estimate import RouteEstimate

TIE = 0.01
MOST_STICKINESS = 0.5

Ranked = list[tuple[float, str]]
"""Probability and domain, best first."""
Reasons = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An expert that routing may choose.

    Attributes:
        priority: among experts of equally likely domains the highest is preferred,
        cost: then the cheapest, then the least loaded.
        max_model_len: tokens of prompt and answer; None = unknown, taken to fit.
        images: whether it takes images.
        languages: ISO 639-1 codes that it reads; None = what the router is told of all.
    """

    expert_id: str
    domain: str
    priority: int
    cost: float = 1.0
    max_model_len: int | None = None
    images: bool = False
    languages: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class RouteContext:
    """What is known beside the text.

    Attributes:
        images: in the message.
        tokens_before: of the prompt before the text, estimated.
        current: expert of the conversation's last answer, None before the first.
        lost_s: time to fill another expert's prefix cache with the conversation, seconds.
        committed: the text is final, and worth waiting for whatever is busy.
    """

    images: int = 0
    tokens_before: int = 0
    current: str | None = None
    lost_s: float = 0.0
    committed: bool = False


NO_CONTEXT = RouteContext()


class Selection:
    """Chooses between experts.

    Args:
        candidates: experts to choose from.
        default_expert: for what belongs nowhere.
        stable_at: P(final route = this one) from which a route is stable.
        switch_price_per_s: probability that a switch within a conversation must gain for each
            second of prefill that it costs.
        load: current load of an expert, 0 = idle; breaks ties.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        default_expert: str,
        *,
        stable_at: float,
        switch_price_per_s: float,
        load: Callable[[str], float],
    ) -> None:
        self._candidates = tuple(candidates)
        self._stable_at = stable_at
        self._switch_price_per_s = switch_price_per_s
        self._load = load
        by_id = {candidate.expert_id: candidate.domain for candidate in candidates}
        self._default = RouteEstimate(default_expert, by_id.get(default_expert, "general"), 0.0)

    def able(self, tokens: int, images: int) -> tuple[Sequence[Candidate], Reasons]:
        """Return the candidates that can take the message; all of them if none can."""
        able, reasons = self._candidates, []
        if images:
            seeing = tuple(c for c in able if c.images)
            reasons.append("images" if seeing else "images, which no expert takes")
            able = seeing or able
        limits = [c.max_model_len for c in able]
        if any(limit is not None and tokens >= limit for limit in limits):
            fitting = tuple(c for c in able if c.max_model_len is None or tokens < c.max_model_len)
            told = f"about {tokens} tokens"
            reasons.append(told if fitting else f"{told}, which fit no expert")
            able = fitting or tuple(c for c in able if c.max_model_len == max(filter(None, limits)))
        return able, tuple(reasons)

    def decide(
        self,
        ranked: Ranked,
        final: float | None,
        able: Sequence[Candidate],
        context: RouteContext,
        reasons: Reasons,
    ) -> RouteEstimate:
        """Return the estimate for ``able`` experts.

        Args:
            ranked: their domains' probabilities, not empty.
            final: P(final route = this one); None = not known.
            able: from ``able``.
            context: of the conversation.
            reasons: so far.
        """
        chances = {domain: probability for probability, domain in ranked}
        experts = sorted(
            (candidate for candidate in able if candidate.domain in chances),
            key=lambda c: self._order(c, chances, ranked[0][0], context),
        )
        best = experts[0]
        current = next((c for c in experts if c.expert_id == context.current), None)
        if current is not None and current.domain != best.domain:
            price = min(MOST_STICKINESS, self._switch_price_per_s * context.lost_s)
            if chances[best.domain] - chances[current.domain] <= price:
                best, reasons = current, (*reasons, "stays: a switch gains too little")
        confidence = chances[best.domain]
        rest = [p for p, domain in ranked if domain != best.domain]
        others: dict[str, Candidate] = {}
        for candidate in experts:
            if candidate.domain != best.domain:
                others.setdefault(candidate.domain, candidate)
        return RouteEstimate(
            best.expert_id,
            best.domain,
            round(confidence, 4),
            tuple((c.expert_id, round(chances[c.domain], 4)) for c in others.values()),
            margin=round(confidence - max(rest, default=0.0), 4),
            final=final,
            stable=final is not None and final >= self._stable_at,
            reasons=reasons,
        )

    def _order(
        self, candidate: Candidate, chances: Mapping[str, float], best: float, context: RouteContext
    ) -> tuple[float | bool | str, ...]:
        """Return the sort key: likely domain first; what ties with the best is told apart."""
        probability = chances[candidate.domain]
        ties = probability >= best - TIE
        return (
            0.0 if ties else 1.0 - probability,
            -candidate.priority,
            candidate.expert_id != context.current,
            candidate.cost,
            self._load(candidate.expert_id),
            -probability,
            candidate.domain,
            candidate.expert_id,
        )

    def fallback(
        self, able: Sequence[Candidate], context: RouteContext, reasons: Reasons
    ) -> RouteEstimate:
        """Return the conversation's expert, else the default, else one that can take the text."""
        ids = {candidate.expert_id: candidate.domain for candidate in able}
        for name in (context.current, self._default.expert):
            if name is not None and (name in ids or len(able) == len(self._candidates)):
                domain = ids.get(name, self._default.domain)
                return RouteEstimate(name, domain, 0.0, reasons=reasons)
        first = max(able, key=lambda c: c.priority)
        return RouteEstimate(first.expert_id, first.domain, 0.0, reasons=reasons)


def among(ranked: Ranked, domains: set[str]) -> Ranked:
    """Return the ranking of some domains alone, renormalised."""
    kept = [(probability, domain) for probability, domain in ranked if domain in domains]
    total = sum(probability for probability, _ in kept)
    return [(probability / total, domain) for probability, domain in kept] if total else []
