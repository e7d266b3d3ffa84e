"""The trained classifier: from a text to calibrated probabilities of the five domains.

One hidden layer beside a linear map, both over ``features.py``. ``train.py`` writes
``data/model.npz``; ``scorer.py`` joins it with the examples of the configuration.
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

from ...rag.base import FloatArray
from .dataset import DATA, DOMAINS
from .features import SIZE, features

MODEL_FILE = DATA / "model.npz"
FORMAT = 2

_END = frozenset(".?!…。！？؟")  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was fitted on out-of-fold predictions; see ``train.py``.

    Attributes:
        sharpness: weights of ``sharpness_features`` in the logarithm of what the classifier's
            logits are multiplied with: the same logits mean more when more has been typed.
    nearness: weight of the cosine to a domain's examples, logits per unit; counts as soon as
            the configuration gives examples.
        own_bias: logit of a domain of the user's own, which has few examples.
        final: weights of ``final_features`` in the logit of P(final route = this one).
        stable_at: a route is stable from this P on: the value at which the first stable route of a
            prompt was the final one in at least 97 % of the prompts.
    """

    sharpness: tuple[float, ...]
    nearness: float
    own_bias: float
    final: tuple[float, ...]
    stable_at: float


@dataclass(frozen=True, slots=True)
class RouteModel:
    """The trained part.

    Attributes:
        inner, inner_bias: float32 (SIZE, h + 5) and (h + 5,): the columns are h hidden units, then
            the linear map to the five logits.
        outer: float32 (h, 5), from the hidden units to the logits.
        prototypes: sentence vectors of prompts of each of ``DOMAINS``, float32 (n, dim), unit.
        encoder: name of the sentence encoder that it was trained on.
    """

    inner: FloatArray
    inner_bias: FloatArray
    outer: FloatArray
    prototypes: Mapping[str, FloatArray]
    calibration: Calibration
    encoder: str

    def log_prior(self, layers: FloatArray, text: str, language_margin: float) -> FloatArray:
        """Return the calibrated log-probability of each of ``DOMAINS``, float32 (5,).

        Args:
            layers: float32 (features.LAYERS,).
            text: what has been typed so far.
            language_margin: see ``language.Language``.
        """
        sums = features(layers, text, language_margin) @ self.inner + self.inner_bias
        hidden, direct = sums[: -len(DOMAINS)], sums[-len(DOMAINS) :]
        logits = silu(hidden) @ self.outer + direct
        logits *= np.float32(sharpness(self.calibration.sharpness, text))
        found: FloatArray = logits - np.float32(log_sum(logits))
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
            "inner": self.inner.astype(np.float16),
            "inner_bias": self.inner_bias,
            "outer": self.outer,
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
        inner = found["inner"].astype(np.float32)
        inner_bias, outer = found["inner_bias"], found["outer"]
        prototypes = {name: _unit(found[f"of_{name}"]) for name in DOMAINS}
        told = json.loads(found["told"].tobytes())
    if told.pop("format") != FORMAT or inner.shape != (SIZE, len(outer) + len(DOMAINS)):
        raise ValueError(f"{MODEL_FILE.name}: another version, shape {inner.shape}")
    encoder = told.pop("encoder")
    told |= {name: tuple(told[name]) for name in ("sharpness", "final")}
    return RouteModel(inner, inner_bias, outer, prototypes, Calibration(**told), encoder)


def final_features(probabilities: Sequence[float], text: str) -> tuple[float, ...]:
    """Return what tells whether a route will last; see ``RouteModel.final_probability``."""
    best = min(max(probabilities[0], 1e-6), 1 - 1e-6)
    second = probabilities[1] if len(probabilities) > 1 else 0.0
    _, words, ended = sharpness_features(text)
    logit = math.log(best / (1 - best))
    return (1.0, logit, best - second, words, ended, logit * words)


def sharpness_features(text: str) -> tuple[float, float, float]:
    """Return one, the logarithm of the number of words, and 1.0 if the text ends a sentence."""
    return 1.0, math.log(text.count(" ") + 1), float(text.rstrip()[-1:] in _END)


def sharpness(weights: Sequence[float], text: str) -> float:
    """Return what the logits of a text are multiplied with; see ``Calibration``."""
    values = sharpness_features(text)
    return math.exp(sum(w * v for w, v in zip(weights, values, strict=True)))


def silu(values: FloatArray) -> FloatArray:
    """Return x / (1 + exp(-x)); see Elfwing et al. 2018, "Sigmoid-Weighted Linear Units"."""
    found = values / (1.0 + np.exp(-np.clip(values, -30.0, 30.0)))
    return found.astype(np.float32, copy=False)


def log_sum(logits: npt.NDArray[np.floating]) -> float:
    """Return the logarithm of the sum of the exponentials."""
    top = float(logits.max())
    return top + math.log(float(np.exp(logits - top).sum()))


def _unit(rows: npt.NDArray[np.float16]) -> FloatArray:
    wide = rows.astype(np.float32)
    found: FloatArray = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return found
