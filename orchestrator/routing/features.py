"""A text as numbers for the classifier: its sentence vector, its words, its language.

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

EMBEDDING = 384
WORDS = 4096
SIZE = EMBEDDING + WORDS + 1
MAX_WORDS = 120
PIECES = (4, 5)
LANGUAGE_SCALE_NATS = 10.0
LANGUAGE_WEIGHT = 2.0
WORDS_WEIGHT = 1.0

_TOKEN = re.compile(r"[^\W_]+|[^\w\s]")


def features(vector: FloatArray, text: str, language_margin: float) -> FloatArray:
    """Return float32 (SIZE,): sentence vector, hashed words (length WORDS_WEIGHT), language.

    Args:
        vector: float32 (EMBEDDING,), unit.
        text: its last MAX_WORDS words count.
        language_margin: see ``language.Language``.
    """
    row = np.empty(SIZE, np.float32)
    row[:EMBEDDING] = vector
    row[EMBEDDING:-1] = hashed_words(text)
    margin = language_margin / LANGUAGE_SCALE_NATS
    row[-1] = LANGUAGE_WEIGHT * min(1.0, max(-1.0, margin))
    return row


def hashed_words(text: str) -> FloatArray:
    """Return float32 (WORDS,) of length WORDS_WEIGHT, or zeros for a text without words."""
    row = np.zeros(WORDS, np.float32)
    for key, weight in dict(_keys(text)).items():
        code = zlib.crc32(key.encode("utf-8", "replace"))
        row[code % WORDS] += weight if code & 0x80000000 else -weight
    length = float(np.linalg.norm(row))
    return row * np.float32(WORDS_WEIGHT / length) if length else row


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
