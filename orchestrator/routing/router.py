"""Partial text to expert: hard signals, then the classifier, then the selection between experts.

Owns the cache of judged texts and what happens without an encoder. Keeps no state per session:
what is known of a conversation comes with each call, and what a stable route causes is the
planner's decision.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from msgspec import structs

from ...rag.base import FloatArray
from ...rag.encoder.worker import EmbedQueueFull
from .dataset import FOREIGN_DOMAIN, HOUSE_LANGUAGES
from .estimate import RouteEstimate
from .language import held_against, identify, ranked
from .model import RouteModel
from .prose import prose
from .reading import HEAD, TAIL, Reader, Reading, is_latin
from .scorer import DomainScorer
from .selection import NO_CONTEXT, Candidate, Ranked, Reasons, RouteContext, Selection, among
from .signals import HARD_LANGUAGE_NATS, SURE, UNENCODED_NATS, estimated_tokens, spread

log = logging.getLogger(__name__)

LEAST_COSINE = 0.15
FAMILIAR_COSINE = 0.5
"""To the configuration's own examples; from here on a text is no noise, however it looks."""
MEANS_NOTHING = "means nothing"
AT_A_TIME = 64
MOST_ASKING = 4
"""Texts that may be at the encoder, tens of milliseconds; the words of others decide alone."""


class TextEmbedding(Protocol):
    """Embeds one text off the event loop; raises when the encoder cannot."""

    async def embed(self, text: str) -> FloatArray:
        """Return the sentence vector: float32 (dim,), Euclidean length 1."""
        ...

    async def embed_layers(self, text: str) -> FloatArray:
        """Return the sentence vector and behind it what else the trained classifier reads."""
        ...


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a text says, whoever asks.

    Attributes:
        ranked: probabilities of the domains; empty: like nothing that is known.
        final: P(final route = this one), None = not known.
        reasons: for people.
        unable: experts that do not read its language, while others do.
        hasty: by the words alone, as the encoder was busy: better is to be had, and it is not kept.
    """

    ranked: Ranked
    final: float | None
    reasons: Reasons
    unable: frozenset[str] = frozenset()
    hasty: bool = False


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
        languages: ISO 639-1 codes that candidates without languages of their own read, but for
            those of the domain ``multilingual``, which read any.
        default_below: ``model.meaning`` below which a text goes to ``default_expert``.
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
        default_below: float = 0.0,
        switch_price_per_s: float = 0.1,
        load: Callable[[str], float] = lambda expert_id: 0.0,
        cache_size: int = 20_000,
    ) -> None:
        self._embedding = embedding
        self._examples = {d: tuple(texts) for d, texts in examples.items() if texts}
        self._domains = dict.fromkeys(candidate.domain for candidate in candidates)
        self._selection = Selection(
            candidates,
            default_expert,
            stable_at=model.calibration.stable_at if model is not None else 1.0,
            switch_price_per_s=switch_price_per_s,
            load=load,
        )
        self._default = default_expert
        self._model = model
        self._own = own
        self._languages = frozenset(languages)
        self._candidates = tuple(candidates)
        self._known_languages = self._languages.union(*(c.languages or () for c in candidates))
        self._default_below = default_below
        self._read = Reader({*self._domains, *(c.expert_id for c in candidates)})
        self._scorer: DomainScorer | None = None
        self._warned = False
        self._cache: OrderedDict[bytes, tuple[Reading, Judgement]] = OrderedDict()
        self._cache_size = cache_size
        self._hits = self._misses = self._failed = self._asking = 0

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
        try:
            for domain in self._domains:
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
        scorer = DomainScorer(self._model, tuple(self._domains), known, self._own)
        if scorer.domains:
            self._scorer = scorer

    def default_estimate(self) -> RouteEstimate:
        """Return where a text goes of which nothing is known."""
        return self._selection.fallback(self._selection.able(0, 0)[0], NO_CONTEXT, ())

    async def estimate(self, text: str, context: RouteContext = NO_CONTEXT) -> RouteEstimate:
        """Return where the text points. Never raises but CancelledError."""
        key = _digest(text)
        known = self._cache.get(key)
        reading = known[0] if known is not None else self._read(text)
        tokens = estimated_tokens(text) + context.tokens_before
        able, reasons = self._selection.able(tokens, context.images)
        reasons = (*reading.reasons, *reasons)
        domains = {candidate.domain for candidate in able}
        if reading.wordless or self._scorer is None or self._embedding is None:
            return self._selection.fallback(able, context, reasons)
        if len(domains) == 1 and not any(candidate.languages for candidate in able):
            [domain] = domains
            return self._selection.decide([(1.0, domain)], 1.0, able, context, reasons)
        try:
            judged = await self._judge(
                self._scorer, self._embedding, reading, key, wait=context.committed
            )
        except EmbedQueueFull:
            self._failed += 1
            reasons = (*reasons, "the sentence encoder is busy")
            estimate = self._selection.fallback(able, context, reasons)
            return structs.replace(estimate, provisional=True)
        except Exception as exc:
            self._failed += 1
            self._degrade(f"the sentence encoder failed ({type(exc).__name__})")
            return self._selection.fallback(
                able, context, (*reasons, "the sentence encoder failed")
            )
        able = [c for c in able if c.expert_id not in judged.unable] or able
        found = among(judged.ranked, {candidate.domain for candidate in able})
        reasons = (*reasons, *judged.reasons)
        if not found:
            return self._selection.fallback(able, context, reasons)
        estimate = self._selection.decide(found, judged.final, able, context, reasons)
        return structs.replace(estimate, provisional=True) if judged.hasty else estimate

    async def _judge(
        self,
        scorer: DomainScorer,
        embedding: TextEmbedding,
        reading: Reading,
        key: bytes,
        *,
        wait: bool,
    ) -> Judgement:
        """Return what is known of the text, from the cache if it was judged before.

        ``wait``: for the encoder, however busy.
        """
        if (known := self._cache.get(key)) is not None:
            self._hits += 1
            self._cache.move_to_end(key)
            return known[1]
        self._misses += 1
        found = await self._rank(scorer, embedding, reading, wait=wait)
        if self._cache_size and not found.hasty:
            self._cache[key] = replace(reading, text=""), found
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        return found

    async def _rank(
        self, scorer: DomainScorer, embedding: TextEmbedding, reading: Reading, *, wait: bool
    ) -> Judgement:
        text, model = reading.text, self._model
        words = model.read(text) if model is not None else None
        noise = self._is_noise(model, words, text)
        layers: FloatArray | None = None
        if noise and model is not None and model.everywhere:  # its encoder may know better
            if not wait and self._asking >= MOST_ASKING:
                return Judgement([], None, (MEANS_NOTHING,), hasty=True)
            layers = await self._layers(embedding, text)
            noise = self._is_noise(model, words, text, layers)
        if noise and not scorer.has_examples:
            return Judgement([], None, (MEANS_NOTHING,))
        scores = ranked(prose(text))
        unable, nats = self._unable(scores)
        reasons: Reasons = ("language: " + next(iter(scores)),) if unable else ()
        left = {c.domain for c in self._candidates if c.expert_id not in unable}
        if unable and len(left) == 1 and left <= {*scorer.domains}:
            [domain] = left
            sure = min(model.foreign(nats, text), SURE) if model is not None else SURE
            chances = spread(len(scorer.domains), scorer.domains.index(domain), sure)
            found = sorted(zip(chances, scorer.domains, strict=True), key=lambda p: (-p[0], p[1]))
            return Judgement(found, sure, reasons, unable)
        margin = held_against(scores, self._known_languages).margin
        unknown = held_against(scores, HOUSE_LANGUAGES).margin >= UNENCODED_NATS
        only = unknown and not (model is not None and model.everywhere)
        found = scorer.by_words(words, text, margin, only=only) if layers is None else []
        hasty = False
        if not found and layers is None and not wait and self._asking >= MOST_ASKING:
            found = scorer.by_words(words, text, margin, only=True)
            hasty, reasons = bool(found), (*reasons, "the sentence encoder is busy")
        if not found:
            if layers is None:
                layers = await self._layers(embedding, text)
            near = scorer.nearest(layers)
            if near is not None and near < LEAST_COSINE:
                return Judgement([], None, (*reasons, "like no example"), unable)
            if noise and (near is None or near < FAMILIAR_COSINE):
                return Judgement([], None, (*reasons, MEANS_NOTHING), unable)
            found = scorer(layers, words, text, margin)
        final = None
        if model is not None:
            final = model.final_probability([p for p, _ in found], text)
        return Judgement(found, final, reasons, unable, hasty)

    async def _layers(self, embedding: TextEmbedding, text: str) -> FloatArray:
        self._asking += 1
        try:
            layers = await embedding.embed_layers(text)
        finally:
            self._asking -= 1
        if not np.isfinite(layers).all():
            raise ValueError("a vector that is not finite")
        return layers

    def _unable(self, scores: Mapping[str, float]) -> tuple[frozenset[str], float]:
        """Return the experts that surely do not read a text of these languages' likelihoods.

        None of them where nobody reads it: then its language says nothing. Beside them the least
        margin by which it is foreign to one, nats.
        """
        foreign: dict[str, float] = {}
        for candidate in self._candidates:
            languages: Collection[str] | None = candidate.languages
            if languages is None:
                if candidate.domain == FOREIGN_DOMAIN and FOREIGN_DOMAIN not in self._own:
                    continue
                languages = self._languages
            margin = held_against(scores, languages).margin
            if margin >= HARD_LANGUAGE_NATS:
                foreign[candidate.expert_id] = margin
        if len(foreign) == len(self._candidates):
            foreign = {}
        return frozenset(foreign), min(foreign.values(), default=0.0)

    def _is_noise(
        self,
        model: RouteModel | None,
        words: FloatArray | None,
        text: str,
        layers: FloatArray | None = None,
    ) -> bool:
        """Return whether a text in Latin letters, which alone are judged, means nothing."""
        if model is None or words is None or not is_latin(text):
            return False
        return model.meaning(words, layers) < self._default_below

    def _degrade(self, reason: str) -> None:
        if not self._warned:
            log.warning("routing everything to %r: %s", self._default, reason)
            self._warned = True


def _digest(text: str) -> bytes:
    """Return what a text is known by: a hash of all that is read of it."""
    read = text if len(text) <= HEAD + TAIL else f"{text[:HEAD]} {text[-TAIL:]}\0"
    return hashlib.blake2b(read.encode("utf-8", "replace"), digest_size=16).digest()
