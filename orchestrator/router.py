"""Partial text to expert: nearest example utterances over sentence embeddings.

Owns the prototypes and the map from domains to experts. Keeps no state per session: whether an
estimate has settled is the planner's decision.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .. import kernels
from ..rag.base import FloatArray
from .turn import RouteEstimate

log = logging.getLogger(__name__)

NEAREST = 3
TEMPERATURE = 0.06
LEAST_COSINE = 0.15
AT_A_TIME = 64


class TextEmbedding(Protocol):
    """Embeds one text off the event loop: float32 (dim,), Euclidean length 1."""

    async def embed(self, text: str) -> FloatArray:
        """Return the vector; raises when the encoder cannot."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """An expert that routing may choose: the best ``priority`` of a domain wins."""

    expert_id: str
    domain: str
    priority: int


class Router:
    """Routes texts by the mean cosine to the three nearest examples of each domain.

    Confidence is a softmax over the domains' scores; a text that is like none of them goes to
    ``default_expert``. Safe for concurrent use on one event loop.
    A missing or failing encoder routes everything to ``default_expert`` with confidence 0.
    """

    def __init__(
        self,
        embedding: TextEmbedding | None,
        examples: Mapping[str, Sequence[str]],
        candidates: Sequence[Candidate],
        default_expert: str,
    ) -> None:
        best: dict[str, Candidate] = {}
        for candidate in sorted(candidates, key=lambda c: -c.priority):
            best.setdefault(candidate.domain, candidate)
        self._embedding = embedding
        self._experts = {d: c.expert_id for d, c in best.items() if examples.get(d)}
        self._examples = {d: tuple(examples[d]) for d in self._experts}
        by_id = {candidate.expert_id: candidate.domain for candidate in candidates}
        self._default = RouteEstimate(default_expert, by_id.get(default_expert, "general"), 0.0)
        self._prototypes: dict[str, FloatArray] = {}
        self._warned = False

    async def start(self) -> None:
        """Embed the examples; on failure every later estimate is the default, with one warning."""
        if self._embedding is None:
            self._degrade("no sentence encoder is installed")
            return
        try:
            for domain, texts in self._examples.items():
                vectors: list[FloatArray] = []
                for start in range(0, len(texts), AT_A_TIME):
                    some = texts[start : start + AT_A_TIME]
                    vectors += await asyncio.gather(*map(self._embedding.embed, some))
                self._prototypes[domain] = np.stack(vectors).astype(np.float32)
        except Exception as exc:  # whatever the encoder raises, routing must go on
            self._prototypes = {}
            self._degrade(f"the sentence encoder failed ({type(exc).__name__})")

    async def estimate(self, text: str) -> RouteEstimate:
        """Return where the text points. Never raises but CancelledError."""
        if not self._prototypes or self._embedding is None or not text.strip():
            return self._default
        try:
            return self._decide(self._scores(await self._embedding.embed(text)))
        except Exception as exc:
            self._degrade(f"the sentence encoder failed ({type(exc).__name__})")
            return self._default

    def _scores(self, vector: FloatArray) -> dict[str, float]:
        query = np.ascontiguousarray(vector[None, :], dtype=np.float32)
        scores = {}
        for domain, prototypes in self._prototypes.items():
            _, nearest = kernels.cosine_top_k(query, prototypes, min(NEAREST, len(prototypes)))
            scores[domain] = float(nearest.mean())
        return scores

    def _decide(self, scores: Mapping[str, float]) -> RouteEstimate:
        top = max(scores.values())
        if top < LEAST_COSINE:
            return self._default
        weights = {d: math.exp((s - top) / TEMPERATURE) for d, s in scores.items()}
        total = sum(weights.values())
        ranked = sorted(((w / total, d) for d, w in weights.items()), reverse=True)
        confidence, domain = ranked[0]
        others = tuple((self._experts[d], round(p, 4)) for p, d in ranked[1:])
        return RouteEstimate(self._experts[domain], domain, round(confidence, 4), others)

    def _degrade(self, reason: str) -> None:
        if not self._warned:
            log.warning("routing everything to %r: %s", self._default.expert, reason)
            self._warned = True
