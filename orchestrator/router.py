"""Partial text to expert: hard signals, then the classifier, then priority, cost and load.

Owns the choice between the configured experts. Keeps no state per session: what is known of a
conversation comes with each call, and what a stable route causes is the planner's decision.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..rag.base import FloatArray
from .routing.dataset import FOREIGN_DOMAIN, HOUSE_LANGUAGES
from .routing.language import identify
from .routing.model import DomainScorer, RouteModel
from .routing.reading import Reader, Reading
from .routing.signals import HARD_LANGUAGE_NATS, SURE, estimated_tokens, spread
from .turn import RouteEstimate

log = logging.getLogger(__name__)

LEAST_COSINE = 0.15
TIE = 0.01
AT_A_TIME = 64
MOST_STICKINESS = 0.5


class TextEmbedding(Protocol):
    """Embeds one text off the event loop: float32 (dim,), Euclidean length 1."""

    async def embed(self, text: str) -> FloatArray:
        """Return the vector; raises when the encoder cannot."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """An expert that routing may choose.

    Attributes:
        priority: among experts of equally likely domains the highest is preferred,
        cost: then the cheapest, then the least loaded.
        max_model_len: tokens of prompt and answer; None = unknown, taken to fit.
        images: whether it takes images.
    """

    expert_id: str
    domain: str
    priority: int
    cost: float = 1.0
    max_model_len: int | None = None
    images: bool = False


@dataclass(frozen=True, slots=True)
class RouteContext:
    """What is known beside the text.

    Attributes:
        images: in the message.
        tokens_before: of the prompt before the text, estimated.
        current: expert of the conversation's last answer, None before the first.
        lost_s: time to fill another expert's prefix cache with the conversation, seconds.
    """

    images: int = 0
    tokens_before: int = 0
    current: str | None = None
    lost_s: float = 0.0


NO_CONTEXT = RouteContext()
Ranked = list[tuple[float, str]]
Judgement = tuple[Ranked, float | None, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class RouteStats:
    """Counters since start: estimates answered from the cache, computed, and not possible."""

    hits: int
    misses: int
    failed: int
    cached: int


class Router:
    """Routes texts; safe for concurrent use on one event loop.

    A missing or failing encoder routes to ``default_expert`` with confidence 0 and one warning.

    Args:
        embedding: None = no encoder is installed.
        examples: questions of the domains that have some of their own.
        candidates: experts to choose from.
        default_expert: for what belongs nowhere.
        model: the trained classifier; None = nearest examples alone.
        own: domains that do not share the built-in domain of the same name.
        languages: ISO 639-1 codes that every domain reads; a text in another goes to the domain
            ``multilingual`` if there is one.
        switch_price_per_s: probability that a switch within a conversation must gain for each
            second of prefill that it costs.
        load: current load of an expert, 0 = idle; breaks ties.
        cache_size: judged texts that are kept (as hashes), least recently used out first.
    """

    def __init__(
        self,
        embedding: TextEmbedding | None,
        examples: Mapping[str, Sequence[str]],
        candidates: Sequence[Candidate],
        default_expert: str,
        *,
        model: RouteModel | None = None,
        own: frozenset[str] = frozenset(),
        languages: Sequence[str] = HOUSE_LANGUAGES,
        switch_price_per_s: float = 0.1,
        load: Callable[[str], float] = lambda expert_id: 0.0,
        cache_size: int = 20_000,
    ) -> None:
        self._embedding = embedding
        self._examples = {d: tuple(texts) for d, texts in examples.items() if texts}
        self._candidates = tuple(candidates)
        self._model = model
        self._own = own
        self._languages = tuple(languages)
        self._switch_price_per_s = switch_price_per_s
        self._load = load
        domains = {c.domain for c in candidates}
        self._read = Reader({*domains, *(c.expert_id for c in candidates)})
        by_id = {candidate.expert_id: candidate.domain for candidate in candidates}
        self._default = RouteEstimate(default_expert, by_id.get(default_expert, "general"), 0.0)
        self._scorer: DomainScorer | None = None
        self._warned = False
        self._cache: OrderedDict[bytes, Judgement] = OrderedDict()
        self._cache_size = cache_size
        self._hits = self._misses = self._failed = 0

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that a text can be routed to; none before ``start`` or without encoder."""
        return self._scorer.domains if self._scorer is not None else ()

    def stats(self) -> RouteStats:
        """Return the counters."""
        return RouteStats(self._hits, self._misses, self._failed, len(self._cache))

    async def start(self) -> None:
        """Embed the examples; on failure every later estimate is the default, with one warning."""
        if self._embedding is None:
            self._degrade("no sentence encoder is installed")
            return
        await asyncio.to_thread(identify, "a question", self._languages)  # loads its model
        known: dict[str, FloatArray] = {}
        wanted = dict.fromkeys(c.domain for c in self._candidates)
        try:
            for domain in wanted:
                vectors: list[FloatArray] = []
                texts = self._examples.get(domain, ())
                for start in range(0, len(texts), AT_A_TIME):
                    some = texts[start : start + AT_A_TIME]
                    vectors += await asyncio.gather(*map(self._embedding.embed, some))
                if vectors:
                    known[domain] = np.stack(vectors).astype(np.float32)
        except Exception as exc:  # whatever the encoder raises, routing must go on
            self._degrade(f"the sentence encoder failed ({type(exc).__name__})")
            return
        scorer = DomainScorer(self._model, tuple(wanted), known, self._own)
        if scorer.domains:
            self._scorer = scorer

    async def estimate(self, text: str, context: RouteContext = NO_CONTEXT) -> RouteEstimate:
        """Return where the text points. Never raises but CancelledError."""
        reading = self._read(text)
        able, reasons = self._able(estimated_tokens(text) + context.tokens_before, context.images)
        reasons = (*reading.reasons, *reasons)
        domains = {candidate.domain for candidate in able}
        if reading.wordless or self._scorer is None or self._embedding is None:
            return self._fallback(able, context, reasons)
        if len(domains) == 1:
            [domain] = domains
            return self._decide([(1.0, domain)], 1.0, able, context, reasons)
        try:
            ranked, final, why = await self._judge(self._scorer, self._embedding, reading)
        except Exception as exc:
            self._failed += 1
            self._degrade(f"the sentence encoder failed ({type(exc).__name__})")
            return self._fallback(able, context, (*reasons, "the sentence encoder failed"))
        ranked = _among(ranked, domains)
        if not ranked:
            return self._fallback(able, context, (*reasons, *why))
        return self._decide(ranked, final, able, context, (*reasons, *why))

    async def _judge(
        self, scorer: DomainScorer, embedding: TextEmbedding, reading: Reading
    ) -> Judgement:
        """Return (probability, domain) best first, P(final) and reasons; empty: like nothing."""
        key = hashlib.blake2b(reading.text.encode("utf-8", "replace"), digest_size=16).digest()
        if (known := self._cache.get(key)) is not None:
            self._hits += 1
            self._cache.move_to_end(key)
            return known
        self._misses += 1
        found = await self._rank(scorer, embedding, reading)
        if self._cache_size:
            self._cache[key] = found
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        return found

    async def _rank(
        self, scorer: DomainScorer, embedding: TextEmbedding, reading: Reading
    ) -> Judgement:
        language = identify(reading.text, self._languages)
        foreign = language.margin >= HARD_LANGUAGE_NATS and FOREIGN_DOMAIN in scorer.domains
        if foreign and FOREIGN_DOMAIN not in self._own:
            at = scorer.domains.index(FOREIGN_DOMAIN)
            chances = spread(len(scorer.domains), at, SURE)
            ranked = sorted(zip(chances, scorer.domains, strict=True), key=lambda p: (-p[0], p[1]))
            return ranked, SURE, (f"language: {language.code}",)
        vector = await embedding.embed(reading.text)
        if not np.isfinite(vector).all():
            raise ValueError("a vector that is not finite")
        near = scorer.nearest(vector)
        if near is not None and near < LEAST_COSINE:
            return [], None, ("like no example",)
        ranked = scorer(vector, reading.text, language.margin)
        final = None
        if self._model is not None:
            final = self._model.final_probability([p for p, _ in ranked], reading.text)
        return ranked, final, ()

    def _able(self, tokens: int, images: int) -> tuple[Sequence[Candidate], tuple[str, ...]]:
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

    def _decide(
        self,
        ranked: Ranked,
        final: float | None,
        able: Sequence[Candidate],
        context: RouteContext,
        reasons: tuple[str, ...],
    ) -> RouteEstimate:
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
        stable_at = self._model.calibration.stable_at if self._model is not None else 1.0
        return RouteEstimate(
            best.expert_id,
            best.domain,
            round(confidence, 4),
            tuple((c.expert_id, round(chances[c.domain], 4)) for c in others.values()),
            margin=round(confidence - max(rest, default=0.0), 4),
            final=final,
            stable=final is not None and final >= stable_at,
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

    def _fallback(
        self, able: Sequence[Candidate], context: RouteContext, reasons: tuple[str, ...]
    ) -> RouteEstimate:
        """Return the conversation's expert, else the default, else one that can take the text."""
        ids = {candidate.expert_id: candidate.domain for candidate in able}
        for name in (context.current, self._default.expert):
            if name is not None and (name in ids or len(able) == len(self._candidates)):
                domain = ids.get(name, self._default.domain)
                return RouteEstimate(name, domain, 0.0, reasons=reasons)
        first = max(able, key=lambda c: c.priority)
        return RouteEstimate(first.expert_id, first.domain, 0.0, reasons=reasons)

    def _degrade(self, reason: str) -> None:
        if not self._warned:
            log.warning("routing everything to %r: %s", self._default.expert, reason)
            self._warned = True


def _among(ranked: Ranked, domains: set[str]) -> Ranked:
    """Return the ranking of some domains alone, renormalised."""
    kept = [(probability, domain) for probability, domain in ranked if domain in domains]
    total = sum(probability for probability, _ in kept)
    return [(probability / total, domain) for probability, domain in kept] if total else []
