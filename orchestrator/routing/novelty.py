"""Whether a text says anything that a question could say: the score of ``router.default_below``.

A logistic regression on the sentence vectors, fitted by ``training/novelty.py`` on prompts and
their beginnings against noise of many kinds. Letters outside of the Latin script are not judged.
"""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass

import numpy as np

from ...rag.base import FloatArray
from .dataset import DATA

FILE = DATA / "novelty.npz"
LATIN = 0x250
"""Letters below are of the Latin script."""


@dataclass(frozen=True, slots=True)
class Novelty:
    """The fitted weights; ``encoder``: whose vectors they read."""

    weights: FloatArray
    encoder: str

    def meaning(self, layers: FloatArray, text: str) -> float:
        """Return the probability that the text means something, 0 to 1; 1 where it is not judged.

        Args:
            layers: float32 (features.LAYERS,).
            text: what has been typed so far.
        """
        if not is_judged(text):
            return 1.0
        score = float(novelty_features(layers[None], [text])[0] @ self.weights)
        return float(1.0 / (1.0 + np.exp(-np.clip(score, -30.0, 30.0))))


def is_judged(text: str) -> bool:
    """Return whether all letters of a text are Latin."""
    if text.isascii():
        return True
    return all(ord(one) < LATIN for one in unicodedata.normalize("NFC", text) if one.isalpha())


def novelty_features(layers: FloatArray, texts: list[str]) -> FloatArray:
    """Return float32 (texts, layers + 2): the vectors, one over the number of words, one."""
    words = np.array([[1.0 / max(len(text.split()), 1), 1.0] for text in texts], np.float32)
    return np.concatenate([layers, words], axis=1)


@functools.cache
def load_novelty() -> Novelty:
    """Return the shipped weights. Raises OSError, ValueError, KeyError when the file is damaged."""
    with np.load(FILE) as kept:
        return Novelty(kept["weights"], str(kept["encoder"]))
