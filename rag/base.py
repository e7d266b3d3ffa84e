"""The values and the one-method seam of retrieval, shared by the bridge and its client.

Owns what a passage is. Knows nothing of sessions, prompts or experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrievable piece of text.

    ``id`` is stable as long as the text is; ``text`` never has scores in it.
    """

    id: str
    source: str
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """Passages for one query revision, best first.

    ``degraded`` says why they are incomplete, None = complete.
    """

    revision: int
    passages: tuple[Passage, ...]
    degraded: str | None = None
    ms: float | None = None


class Retriever(Protocol):
    """Finds passages; implemented by the bridge's HTTP client and by fakes."""

    async def retrieve(
        self, query: str, *, revision: int, partial: bool, deadline_ms: float, session_id: str
    ) -> RetrievalResult:
        """Return passages within the deadline, or a result flagged ``degraded``.

        Never raises but CancelledError.
        """
        ...

    async def aclose(self) -> None:
        """Release sockets."""
        ...


class Embedder(Protocol):
    """Turns texts into unit vectors; thread-safe, blocking (run it off the event loop)."""

    name: str
    dim: int

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return float32 (len(texts), dim), C-contiguous, rows of Euclidean length 1."""
        ...


@runtime_checkable
class LayeredEmbedder(Embedder, Protocol):
    """An embedder that also shows a layer below its last one."""

    def embed_layers(self, texts: Sequence[str]) -> FloatArray:
        """Return float32 (len(texts), 2 * dim): ``embed``, then unit rows of that layer."""
        ...
