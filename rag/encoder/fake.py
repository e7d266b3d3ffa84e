"""An encoder without a model, for tests and measurements: words hash to directions."""

from __future__ import annotations

import re
import threading
import zlib
from collections.abc import Sequence

import numpy as np

from ..base import FloatArray


class FakeEmbedder:
    """Texts that share words are similar; equal texts have equal vectors, on every machine.

    Attributes:
        batches: the texts of every call so far.
        gate: set by default; while cleared, ``embed`` waits (in its worker's thread).
        error: raised by ``embed`` while not None.
    """

    name = "fake"

    def __init__(self, dim: int = 64) -> None:
        self.dim = dim
        self.batches: list[tuple[str, ...]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def count(self, texts: Sequence[str]) -> int:
        """Return the number of words."""
        return sum(len(text.split()) for text in texts)

    def text_of(self, token_ids: Sequence[int]) -> str:
        """Return the tokens as numbers; a thousand are known."""
        if unknown := [token for token in token_ids if token >= 1000]:
            raise ValueError(f"token {unknown[0]}: the encoder has 1000 tokens")
        return " ".join(map(str, token_ids))

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return float32 (len(texts), dim), unit rows."""
        self.batches.append(tuple(texts))
        self.gate.wait()
        if self.error is not None:
            raise self.error
        vectors = np.full((len(texts), self.dim), 1e-3)
        for row, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                row += np.random.default_rng(zlib.crc32(word.encode())).standard_normal(self.dim)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32)
