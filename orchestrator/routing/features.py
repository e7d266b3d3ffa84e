"""A text as numbers for the classifier: what the encoder makes of it, its words, its language.

The words carry what an English encoder misses in Spanish: hashed words, word pairs and pieces of
words, as in fastText (Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification").
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from ...rag.base import FloatArray

LAYERS = 768
"""Sentence vector and middle layer of the encoder."""
WORDS = 4096
SIZE = LAYERS + 1 + WORDS
MAX_WORDS = 120
PIECES = (4, 5)
LANGUAGE_SCALE_NATS = 10.0
LANGUAGE_WEIGHT = 2.0

_TOKEN = re.compile(r"[^\W_]+|[^\w\s]")


def features(layers: FloatArray, text: str, language_margin: float) -> FloatArray:
    """Return float32 (SIZE,): layers, language, hashed words (of Euclidean length 1).

    Args:
        layers: float32 (LAYERS,), of ``LayeredEmbedder.embed_layers``.
        text: its last MAX_WORDS words count.
        language_margin: see ``language.Language``.
    """
    row = np.empty(SIZE, np.float32)
    row[:LAYERS] = layers
    margin = language_margin / LANGUAGE_SCALE_NATS
    row[LAYERS] = LANGUAGE_WEIGHT * min(1.0, max(-1.0, margin))
    row[LAYERS + 1 :] = hashed_words(text)
    return row


def hashed_words(text: str) -> FloatArray:
    """Return float32 (WORDS,) of Euclidean length 1, or zeros for a text without words."""
    row = np.zeros(WORDS, np.float32)
    for key, weight in dict(_keys(text)).items():
        code = zlib.crc32(key.encode("utf-8", "replace"))
        row[code % WORDS] += weight if code & 0x80000000 else -weight
    length = float(np.linalg.norm(row))
    return row / np.float32(length) if length else row


def _keys(text: str) -> Iterator[tuple[str, float]]:
    words = _TOKEN.findall(text[-4096:].lower())[-MAX_WORDS:]
    for word in words:
        yield "w" + word, 1.0
        if len(word) > min(PIECES) - 1:
            edged = f"<{word[:40]}>"
            for size in PIECES:
                for start in range(len(edged) - size + 1):
                    yield "c" + edged[start : start + size], 0.5
    for left, right in pairwise(words):
        yield f"b{left} {right}", 1.0
