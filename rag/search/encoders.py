"""The encoders of collections that are not of the bridge's own, loaded when one is opened.

Owns their workers: questions in this process, passages in one that yields to everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from ..base import Embedder
from ..encoder.kinds import EncoderKind
from ..encoder.process import ProcessEmbedder
from ..encoder.worker import EmbedWorker
from ..store.base import StoreError


@dataclass(frozen=True, slots=True)
class _Loaded:
    questions: EmbedWorker
    passages: EmbedWorker
    process: ProcessEmbedder


class OtherEncoders:
    """Encoders by name. ``load`` runs in one thread at a time, all else on the event loop."""

    def __init__(self, kinds: Sequence[EncoderKind]) -> None:
        self._kinds = {kind.name: kind for kind in kinds}
        self._loaded: dict[str, _Loaded] = {}

    def load(self, name: str) -> None:
        """Load an encoder unless that was done; blocks for seconds.

        Raises:
            StoreError: no such encoder here.
            EmbedderUnavailable: it cannot be loaded.
        """
        if name in self._loaded:
            return
        kind = self._kinds.get(name)
        if kind is None:
            raise StoreError(f"a collection is of the encoder {name}, which is not here")
        process = ProcessEmbedder(kind.passages, kind.name, kind.dim)
        self._loaded[name] = _Loaded(
            EmbedWorker(kind.questions()), passage_worker(process), process
        )

    def questions(self, name: str) -> EmbedWorker:
        """Return the worker for questions of a loaded encoder."""
        return self._loaded[name].questions

    def passages(self, name: str) -> EmbedWorker:
        """Return the worker for passages of a loaded encoder."""
        return self._loaded[name].passages

    async def aclose(self) -> None:
        """End all workers and processes."""
        for loaded in self._loaded.values():
            await asyncio.to_thread(loaded.process.close)  # first: its batch could take minutes
            await loaded.passages.aclose()
            await loaded.questions.aclose()


def passage_worker(embedder: Embedder) -> EmbedWorker:
    """Return a worker for documents: long queue, no cache."""
    return EmbedWorker(embedder, max_batch=8, max_queue=4096, cache_size=0)
