"""From a sentence vector and a text to calibrated probabilities of the configured domains.

Two parts meet here. The classifier knows the five domains of ``dataset.DOMAINS`` from training. The
examples of the configuration need none: each domain that has some is also scored by how near they
are, and a domain of the user's own inherits the prior of the most likely built-in one, so that
nearness decides between the two. ``train.py`` writes ``data/model.npz``.
"""

from __future__ import annotations

import functools
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import kernels
from ...rag.base import FloatArray
from .dataset import DATA, DOMAINS
from .features import SIZE, features

MODEL_FILE = DATA / "model.npz"
FORMAT = 1
NEAREST = 3

_END = frozenset(".?!…。！？؟")  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was fitted on out-of-fold predictions; see ``train.py``.

    Attributes:
        temperature: of the classifier's softmax.
        nearness: weight of the cosine to a domain's examples, logits per unit; counts as soon as
            the configuration gives examples.
        own_bias: logit of a domain of the user's own, which has few examples.
        final: weights of ``final_features`` in the logit of P(final route = this one).
        stable_at: a route is stable from this P on: the value at which the first stable route of a
            prompt was the final one in at least 97 % of the prompts.
    """

    temperature: float
    nearness: float
    own_bias: float
    final: tuple[float, ...]
    stable_at: float


@dataclass(frozen=True, slots=True)
class RouteModel:
    """The trained part.

    Attributes:
        weights, bias: float32 (SIZE, 5) and (5,).
        prototypes: unit vectors of prompts of each of ``DOMAINS``, float32 (n, EMBEDDING).
        encoder: name of the sentence encoder that it was trained on.
    """

    weights: FloatArray
    bias: FloatArray
    prototypes: Mapping[str, FloatArray]
    calibration: Calibration
    encoder: str

    def log_prior(self, vector: FloatArray, text: str, language_margin: float) -> FloatArray:
        """Return the calibrated log-probability of each of ``DOMAINS``, float32 (5,)."""
        row = features(vector, text, language_margin)
        logits = (row @ self.weights + self.bias) / np.float32(self.calibration.temperature)
        found: FloatArray = logits - np.float32(_log_sum(logits))
        return found

    def final_probability(self, probabilities: Sequence[float], text: str) -> float:
        """Return P(the route of the finished text is the present one).

        Args:
            probabilities: of the configured domains, best first.
            text: what has been typed so far.
        """
        values = final_features(probabilities, text)
        logit = sum(w * v for w, v in zip(self.calibration.final, values, strict=True))
        return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, logit))))

    def save(self, file: Path) -> None:
        """Write as npz without pickled objects."""
        told = json.dumps({"format": FORMAT, "encoder": self.encoder, **asdict(self.calibration)})
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {
            "weights": self.weights.astype(np.float16),
            "bias": self.bias.astype(np.float32),
            "told": np.frombuffer(told.encode(), np.uint8),
        }
        arrays |= {f"of_{name}": rows.astype(np.float16) for name, rows in self.prototypes.items()}
        np.savez_compressed(buffer, **arrays)
        file.write_bytes(buffer.getvalue())


@functools.cache
def load_model() -> RouteModel:
    """Return the shipped model.

    Raises:
        OSError, ValueError: the file is missing or is not of this version.
    """
    with np.load(MODEL_FILE, allow_pickle=False) as found:
        weights = found["weights"].astype(np.float32)
        bias = found["bias"].astype(np.float32)
        prototypes = {name: _unit(found[f"of_{name}"]) for name in DOMAINS}
        told = json.loads(found["told"].tobytes())
    if told.pop("format") != FORMAT or weights.shape != (SIZE, len(DOMAINS)):
        raise ValueError(f"{MODEL_FILE.name}: another version, shape {weights.shape}")
    encoder = told.pop("encoder")
    told["final"] = tuple(told["final"])
    return RouteModel(weights, bias, prototypes, Calibration(**told), encoder)


def final_features(probabilities: Sequence[float], text: str) -> tuple[float, ...]:
    """Return what tells whether a route will last; see ``RouteModel.final_probability``."""
    best = min(max(probabilities[0], 1e-6), 1 - 1e-6)
    second = probabilities[1] if len(probabilities) > 1 else 0.0
    words = text.count(" ") + 1
    ended = float(text.rstrip()[-1:] in _END)
    logit = math.log(best / (1 - best))
    return (1.0, logit, best - second, math.log(words), ended, logit * math.log(words))


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

    def __call__(
        self, vector: FloatArray, text: str, language_margin: float
    ) -> list[tuple[float, str]]:
        """Return (probability, domain), best first, ties by name; they add up to one."""
        logits = self._prior(vector, text, language_margin) + self._near(vector)
        chances = np.exp(logits - _log_sum(logits))
        ranked = zip(chances.tolist(), self.domains, strict=True)
        return sorted(ranked, key=lambda pair: (-pair[0], pair[1]))

    def nearest(self, vector: FloatArray) -> float | None:
        """Return the best mean cosine to any domain's examples; None without examples."""
        near = self._cosines(vector)
        return max(near.values()) if near else None

    def _prior(self, vector: FloatArray, text: str, margin: float) -> npt.NDArray[np.float64]:
        prior = np.zeros(len(self.domains))
        known = [at for at in self._columns if at is not None]
        if self._model is None or not known:
            return prior
        found = self._model.log_prior(vector, text, margin).astype(np.float64)
        best = found[known].max()
        for place, column in enumerate(self._columns):
            prior[place] = best if column is None else found[column]
        return prior

    def _near(self, vector: FloatArray) -> npt.NDArray[np.float64]:
        near = self._cosines(vector)
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

    def _cosines(self, vector: FloatArray) -> dict[str, float]:
        query = np.ascontiguousarray(vector[None, :], dtype=np.float32)
        near = {}
        for domain, rows in self._examples.items():
            _, cosines = kernels.cosine_top_k(query, rows, min(NEAREST, len(rows)))
            near[domain] = float(cosines.mean())
        return near


ALL_GIVEN_NEARNESS = 20.0
"""The same for a configuration with examples of every domain, which knows its users better; chosen
on the embedded experts' handbook questions."""
NEARNESS_ALONE = 1 / 0.06
"""Logits per unit of cosine when there are only examples to go by."""


def _unit(rows: npt.NDArray[np.float16]) -> FloatArray:
    wide = rows.astype(np.float32)
    found: FloatArray = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return found


def _log_sum(logits: npt.NDArray[np.floating]) -> float:
    top = float(logits.max())
    return top + math.log(float(np.exp(logits - top).sum()))
