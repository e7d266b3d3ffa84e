"""The trained classifier: from a text to calibrated probabilities of the five domains.

It reads words (``features.py``), which it knows in some twenty languages, and, where that leaves a
doubt, the vector of a sentence encoder beside them. ``training/train.py`` writes a file for each
encoder, of which the first has the words of all; ``scorer.py`` joins it with the examples of the
configuration.
"""

from __future__ import annotations

import functools
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...rag.base import FloatArray
from .dataset import DATA, DOMAINS, FOREIGN_DOMAIN
from .features import BUCKETS, token_ids

MODEL_FILES = {
    "all-MiniLM-L6-v2": DATA / "model.npz",
    "multilingual-e5-small": DATA / "model_e5.npz",
}
"""By the encoder that they read."""
FIRST_ENCODER = next(iter(MODEL_FILES))
FORMAT = 4
LAYERS = 768
"""Sentence vector and middle layer of the encoder."""
LANGUAGE_SCALE_NATS = 10.0

_END = frozenset(".?!…。！？؟")  # noqa: RUF001
_FOREIGN = DOMAINS.index(FOREIGN_DOMAIN)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was fitted on predictions for prompts that training did not see; see ``calibrate.py``.

    Attributes:
        words_sharpness, both_sharpness: weights of ``sharpness_features`` in the logarithm of what
            the logits are multiplied with: the same logits mean more when more has been typed.
        foreign: weights of ``foreign_features`` in the logit of P(the text is in a language that
            only the domain multilingual reads).
        alone_at: probability from which the words decide without the encoder.
        nearness: weight of the cosine to a domain's examples, logits per unit; counts as soon as
            the configuration gives examples.
        own_bias: logit of a domain of the user's own, which has few examples.
        final: weights of ``final_features`` in the logit of P(final route = this one).
        stable_at: a route is stable from this P on; docs/routing.md says what that guarantees.
    """

    words_sharpness: tuple[float, ...]
    both_sharpness: tuple[float, ...]
    foreign: tuple[float, ...]
    alone_at: float
    nearness: float
    own_bias: float
    final: tuple[float, ...]
    stable_at: float


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear map beside hidden units: float32 (n, h), (h,), (h, k), (n, k), (k,)."""

    inner: FloatArray
    inner_bias: FloatArray
    outer: FloatArray
    direct: FloatArray
    bias: FloatArray

    def __call__(self, row: FloatArray) -> FloatArray:
        """Return k logits of n numbers; several rows at once as well."""
        found: FloatArray = silu(row @ self.inner + self.inner_bias) @ self.outer
        found += row @ self.direct + self.bias
        return found


@dataclass(frozen=True, slots=True)
class RouteModel:
    """The trained part.

    Attributes:
        table: float32 (BUCKETS, width), a vector of each row that ``token_ids`` names.
        words: from ``read`` to the logits of the five domains and that of meaning anything.
        both: from the same and the encoder's layers to the logits of the five domains and, where
            ``everywhere``, that of meaning anything.
        prototypes: sentence vectors of prompts of each of ``DOMAINS``, float32 (n, dim), unit.
        encoder: name of the sentence encoder that ``both`` and ``prototypes`` are of.
        everywhere: whether ``both`` knows every language; else those of ``HOUSE_LANGUAGES``.
    """

    table: FloatArray
    words: Layer
    both: Layer
    prototypes: Mapping[str, FloatArray]
    calibration: Calibration
    encoder: str
    everywhere: bool = False

    def read(self, text: str) -> FloatArray:
        """Return what the words say, float32 (2 * width + 1,); about a millisecond for 80 words.

        Mean and maximum over the tokens, and how many they are.
        """
        ids, starts = token_ids(text)
        width = self.table.shape[1]
        row = np.zeros(2 * width + 1, np.float32)
        if len(ids):
            sizes = np.diff(np.append(starts, len(ids))).astype(np.float32)
            tokens = np.add.reduceat(self.table[ids], starts) / sizes[:, None]
            row[:width] = tokens.sum(0) / math.sqrt(len(tokens))
            row[width:-1] = tokens.max(0)
            row[-1] = COUNT_SCALE * math.log1p(len(tokens))
        return row

    def meaning(self, row: FloatArray, layers: FloatArray | None = None) -> float:
        """Return the probability, 0 to 1, that a text means anything.

        Args:
            row: of ``read``.
            layers: of ``encoder``; None = by the words alone, as without ``everywhere``.
        """
        if layers is None or not self.everywhere:
            return _logistic(float(self.words(row)[len(DOMAINS)]))
        return _logistic(float(self.both(np.concatenate([row, layers]))[len(DOMAINS)]))

    def log_prior(
        self, row: FloatArray, text: str, language_margin: float, layers: FloatArray | None = None
    ) -> FloatArray:
        """Return the calibrated log-probability of each of ``DOMAINS``, float32 (5,).

        Args:
            row: of ``read``.
            text: what has been typed so far.
            language_margin: see ``language.Language``.
            layers: float32 (LAYERS,) of ``encoder``; None = the words alone.
        """
        told = self.calibration
        if layers is None:
            logits = self.words(row)[: len(DOMAINS)]
            logits = logits * sharpness(told.words_sharpness, text)
        else:
            logits = self.both(np.concatenate([row, layers]))[: len(DOMAINS)]
            logits = logits * sharpness(told.both_sharpness, text)
        chances = np.exp(logits - log_sum(logits))
        foreign = self.foreign(language_margin, text)
        chances *= 1.0 - foreign
        chances[_FOREIGN] += foreign
        found: FloatArray = np.log(np.maximum(chances, 1e-9)).astype(np.float32)
        return found

    def foreign(self, language_margin: float, text: str) -> float:
        """Return P(the text is in a language that only the domain multilingual reads)."""
        if language_margin == 0.0:
            return 0.0
        values = foreign_features(language_margin, text)
        weights = self.calibration.foreign
        return _logistic(sum(w * v for w, v in zip(weights, values, strict=True)))

    def final_probability(self, probabilities: Sequence[float], text: str) -> float:
        """Return P(the route of the finished text is the present one).

        Args:
            probabilities: of the configured domains, best first.
            text: what has been typed so far.
        """
        values = final_features(probabilities, text)
        return _logistic(sum(w * v for w, v in zip(self.calibration.final, values, strict=True)))

    def save(self, file: Path) -> None:
        """Write as npz without pickled objects; the table and the prototypes in 8 bits.

        Only the first encoder's file has the words.
        """
        head = {"format": FORMAT, "encoder": self.encoder, "everywhere": self.everywhere}
        told = json.dumps(head | asdict(self.calibration))
        arrays: dict[str, Any] = {"told": np.frombuffer(told.encode(), np.uint8)}
        layers = {"both": self.both}
        if self.encoder == FIRST_ENCODER:
            arrays["table"], arrays["table_scale"] = _narrowed(self.table)
            layers["words"] = self.words
        for name, layer in layers.items():
            for part in fields(Layer):
                arrays[f"{name}.{part.name}"] = getattr(layer, part.name).astype(np.float16)
        for name, rows in self.prototypes.items():
            arrays[f"of.{name}"] = np.rint(rows * (127 / np.abs(rows).max())).astype(np.int8)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        file.write_bytes(buffer.getvalue())


COUNT_SCALE = 0.3
"""Of the logarithm of the number of tokens."""


def load_model(encoder: str = FIRST_ENCODER) -> RouteModel:
    """Return the shipped model that reads this encoder.

    Raises:
        OSError, ValueError, KeyError: the file is missing or is not of this version, or no model
            reads this encoder.
    """
    return read_model(encoder)


@functools.cache
def read_model(encoder: str) -> RouteModel:
    """Do what ``load_model`` does, once for each encoder."""
    file = MODEL_FILES[encoder]
    with np.load(file, allow_pickle=False) as found:
        told = json.loads(found["told"].tobytes())
        if told.pop("format") != FORMAT or told.pop("encoder") != encoder:
            raise ValueError(f"{file.name}: another version")
        if encoder == FIRST_ENCODER:
            table = found["table"].astype(np.float32) * found["table_scale"]
            words = _layer(found, "words")
        else:
            first = load_model()
            table, words = first.table, first.words
        both = _layer(found, "both")
        prototypes = {name: _unit(found[f"of.{name}"]) for name in DOMAINS}
    size = 2 * table.shape[1] + 1
    shapes = (len(table), len(words.inner), len(both.inner))
    if shapes != (BUCKETS, size, size + LAYERS):
        raise ValueError(f"{file.name}: another version, shapes {shapes}")
    everywhere = told.pop("everywhere")
    told = {name: tuple(v) if isinstance(v, list) else v for name, v in told.items()}
    return RouteModel(table, words, both, prototypes, Calibration(**told), encoder, everywhere)


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


def foreign_features(language_margin: float, text: str) -> tuple[float, float, float]:
    """Return one, the margin within its limits, and the same times the logarithm of the words."""
    margin = max(-3.0, min(3.0, language_margin / LANGUAGE_SCALE_NATS))
    return 1.0, margin, margin * math.log(text.count(" ") + 1)


def silu(values: FloatArray) -> FloatArray:
    """Return x / (1 + exp(-x)); see Elfwing et al. 2018, "Sigmoid-Weighted Linear Units"."""
    found = values / (1.0 + np.exp(-np.clip(values, -30.0, 30.0)))
    return found.astype(np.float32, copy=False)


def log_sum(logits: npt.NDArray[np.floating]) -> float:
    """Return the logarithm of the sum of the exponentials."""
    top = float(logits.max())
    return top + math.log(float(np.exp(logits - top).sum()))


def _logistic(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, value))))


def _narrowed(rows: FloatArray) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Return int8 of the same shape and what each column of it is multiplied with."""
    scale = np.maximum(np.abs(rows).max(0), 1e-9).astype(np.float32) / 127
    return np.rint(rows / scale).astype(np.int8), scale


def _layer(found: Mapping[str, Any], name: str) -> Layer:
    parts = (found[f"{name}.{part.name}"] for part in fields(Layer))
    return Layer(*(part.astype(np.float32) for part in parts))


def _unit(rows: npt.NDArray[np.int8]) -> FloatArray:
    wide = rows.astype(np.float32)
    found: FloatArray = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return found
