"""Probabilities of the domains that are configured, whether the classifier knows them or not.

The examples of the configuration need no training: each domain that has some is also scored by how
near they are, and a domain of the user's own inherits the prior of the most likely built-in one, so
that nearness decides between the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ... import kernels
from ...rag.base import FloatArray
from .dataset import DOMAINS
from .model import RouteModel, log_sum
from .selection import Ranked

NEAREST = 3
ALL_GIVEN_NEARNESS = 20.0
"""The same for a configuration with examples of every domain, which knows its users better; chosen
on the embedded experts' handbook questions."""
NEARNESS_ALONE = 1 / 0.06
"""Logits per unit of cosine when there are only examples to go by."""


class DomainScorer:
    """Probabilities of the configured domains.

    Args:
        model: the classifier; None = examples alone.
        domains: to choose from, at least one.
        examples: of some domains, float32 (n, dim), unit rows; they stand in for the shipped ones.
        own: domains that are the user's even if their name is a built-in one's.
    """

    def __init__(
        self,
        model: RouteModel | None,
        domains: Sequence[str],
        examples: Mapping[str, FloatArray],
        own: frozenset[str] = frozenset(),
    ) -> None:
        known = {name: at for at, name in enumerate(DOMAINS) if model and name not in own}
        self._model = model
        self.domains = tuple(d for d in domains if d in known or len(examples.get(d, ())))
        self._columns = [known.get(domain) for domain in self.domains]
        self._examples: dict[str, FloatArray] = {}
        if any(len(rows) for rows in examples.values()):  # else the classifier decides alone
            for domain in self.domains:
                rows = examples.get(domain, ())
                if not len(rows) and model is not None:
                    rows = model.prototypes[domain]
                self._examples[domain] = np.ascontiguousarray(rows, np.float32)
        self._all_given = all(len(examples.get(domain, ())) for domain in self.domains)

    @property
    def has_examples(self) -> bool:
        """Whether the configuration gave any."""
        return bool(self._examples)

    def __call__(
        self, layers: FloatArray, words: FloatArray | None, text: str, language_margin: float
    ) -> Ranked:
        """Return (probability, domain), best first, ties by name; they add up to one.

        Args:
            layers: begins with the sentence vector; the classifier reads all of it.
            words: of ``RouteModel.read``; None = there is no classifier.
            text: what has been typed so far.
            language_margin: see ``language.Language``.
        """
        return self._ranked(self._prior(layers, words, text, language_margin) + self._near(layers))

    def by_words(
        self, words: FloatArray | None, text: str, language_margin: float, *, only: bool = False
    ) -> Ranked:
        """Return the same by the words alone; empty where they leave a doubt.

        What only examples know cannot be told without the encoder.

        Args:
            words: of ``RouteModel.read``.
            text: what has been typed so far.
            language_margin: see ``language.Language``.
            only: the encoder does not know the language: whatever doubt is left stays.
        """
        if self._model is None or words is None or self._examples or None in self._columns:
            return []
        found = self._ranked(self._prior(None, words, text, language_margin))
        return found if only or found[0][0] >= self._model.calibration.alone_at else []

    def _ranked(self, logits: npt.NDArray[np.float64]) -> Ranked:
        chances = np.exp(logits - log_sum(logits))
        ranked = zip(chances.tolist(), self.domains, strict=True)
        return sorted(ranked, key=lambda pair: (-pair[0], pair[1]))

    def nearest(self, layers: FloatArray) -> float | None:
        """Return the best mean cosine to any domain's examples; None without examples."""
        near = self._cosines(layers)
        return max(near.values()) if near else None

    def _prior(
        self, layers: FloatArray | None, words: FloatArray | None, text: str, margin: float
    ) -> npt.NDArray[np.float64]:
        prior = np.zeros(len(self.domains))
        known = [at for at in self._columns if at is not None]
        if self._model is None or words is None or not known:
            return prior
        found = self._model.log_prior(words, text, margin, layers).astype(np.float64)
        best = found[known].max()
        for place, column in enumerate(self._columns):
            prior[place] = best if column is None else found[column]
        return prior

    def _near(self, layers: FloatArray) -> npt.NDArray[np.float64]:
        near = self._cosines(layers)
        if not near:
            return np.zeros(len(self.domains))
        cosines = np.array([near[domain] for domain in self.domains])
        if self._model is None:
            return NEARNESS_ALONE * cosines
        told = self._model.calibration
        bias = np.array([told.own_bias if at is None else 0.0 for at in self._columns])
        weight = ALL_GIVEN_NEARNESS if self._all_given else told.nearness
        found: npt.NDArray[np.float64] = weight * cosines + bias
        return found

    def _cosines(self, layers: FloatArray) -> dict[str, float]:
        near = {}
        for domain, rows in self._examples.items():
            query = np.ascontiguousarray(layers[None, : rows.shape[1]], dtype=np.float32)
            _, cosines = kernels.cosine_top_k(query, rows, min(NEAREST, len(rows)))
            near[domain] = float(cosines.mean())
        return near
