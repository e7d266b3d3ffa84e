"""The encoders that a collection can be of, by the name that it records.

Owns what belongs to an encoder and not to its user: how it is loaded for questions and for
passages, and the cosine from which a passage answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ..base import Embedder
from .e5 import E5_NAME, E5Embedder
from .embedder import MiniLMEmbedder

MIN_SCORES: Final = MappingProxyType({MiniLMEmbedder.name: 0.37, E5_NAME: 0.05})
"""Cosines below which a passage has hardly anything to do with the question (docs/retrieval.md):
MiniLM's parts questions with an answering passage from others; E5's only leaves out what has
nothing in common with the question, as a right passage in another language than its question has
hardly more in common with it than a wrong one in its own."""


@dataclass(frozen=True, slots=True)
class EncoderKind:
    """One encoder; nothing of it is loaded yet.

    Attributes:
        name: as collections record it.
        dim: length of its vectors.
        questions, passages: load it for one of the two; picklable. They raise
            EmbedderUnavailable.
    """

    name: str
    dim: int
    questions: Callable[[], Embedder]
    passages: Callable[[], Embedder]

    @property
    def is_one(self) -> bool:
        """Whether questions and passages are encoded alike."""
        return self.questions == self.passages


MINILM: Final = EncoderKind(MiniLMEmbedder.name, MiniLMEmbedder.dim, MiniLMEmbedder, MiniLMEmbedder)


def multilingual(file: Path) -> EncoderKind:
    """Return multilingual-e5-small, whose weights are in ``file``."""
    load = partial(E5Embedder, file)
    return EncoderKind(E5_NAME, E5Embedder.dim, partial(load, "query"), partial(load, "passage"))


def min_score(name: str) -> float:
    """Return the calibrated threshold of an encoder; 0 for one that nobody calibrated."""
    return MIN_SCORES.get(name, 0.0)
