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

    Attributes:
        id: stable as long as the text is.
        source: the document it is from, as it is named to users.
        text: goes into the prompt as it is; never has scores in it.
        score: the higher the better; comparable within one result alone.
        title: the headings that it stands below, as they are shown to users; empty without any.
    """

    id: str
    source: str
    text: str
    score: float
    title: str = ""


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """Passages for one query revision.

    Attributes:
        revision: that of the query.
        passages: best first, perhaps none.
        degraded: why they are incomplete, None = complete. Incomplete ones are not frozen.
        ms: how long it took, None = not known.
        provisional: the query was partial, and a final one for the same text may find others: it
            is reranked, for example.
    """

    revision: int
    passages: tuple[Passage, ...]
    degraded: str | None = None
    ms: float | None = None
    provisional: bool = False


class Retriever(Protocol):
    """Finds passages: the bridge's HTTP client, or a search of your own.

    Called from the event loop, for many sessions at once; it must not block.
    """

    async def retrieve(
        self, query: str, *, revision: int, partial: bool, deadline_ms: float, session_id: str
    ) -> RetrievalResult:
        """Return passages within the deadline, or a result flagged ``degraded``.

        Never raises but CancelledError. At most two calls of a session run at a time.

        Args:
            query: the input so far, or the committed text.
            revision: of the input; to be returned.
            partial: whether more text may follow.
            deadline_ms: time left; 50 ms after it the call is cancelled.
            session_id: the same for all calls of a conversation.
        """
        ...

    async def aclose(self) -> None:
        """Release sockets."""
        ...


class Embedder(Protocol):
    """Turns texts into unit vectors; thread-safe, blocking (run it off the event loop).

    Attributes:
        name: says which vectors can be compared: those of one name.
        dim: length of a vector.
    """

    name: str
    dim: int

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return float32 (len(texts), dim), C-contiguous, rows of Euclidean length 1."""
        ...


@runtime_checkable
class TokenEmbedder(Embedder, Protocol):
    """An embedder whose tokens can be counted, and be given in place of a text."""

    def count(self, texts: Sequence[str]) -> int:
        """Return how many tokens are computed for these texts."""
        ...

    def text_of(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens without special ones; ValueError names one that is none."""
        ...


@runtime_checkable
class LayeredEmbedder(Embedder, Protocol):
    """An embedder that also shows a layer below its last one."""

    def embed_layers(self, texts: Sequence[str]) -> FloatArray:
        """Return float32 (len(texts), 2 * dim): ``embed``, then unit rows of that layer."""
        ...
