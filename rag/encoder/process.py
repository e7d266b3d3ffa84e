"""The encoder of documents: a process of its own that yields to everything else.

Owns that process. Documents keep an encoder busy for minutes. In the service's process it would
take the interpreter from the event loop at every operation; in another one, under the scheduler's
idle policy, it runs where a processor has nothing else to do and gives way at once.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Self

from ..base import Embedder, FloatArray
from ..documents.parse_process import belong_to_parent
from .embedder import EmbedderError

_make: Callable[[], Embedder]
_embedder: Embedder | None = None


class ProcessEmbedder:
    """An ``Embedder`` whose work is done by another process. Thread-safe and blocking.

    The process starts with the first texts, which takes as long as its encoder takes to load, and
    anew with the next ones after it was killed. One whose encoder cannot be loaded stays, tries it
    again with the next texts, and each time the reason is raised. It ends with ``close``, or with
    this process.
    """

    def __init__(self, make: Callable[[], Embedder], name: str, dim: int) -> None:
        """Start no process yet.

        Args:
            make: returns the encoder; picklable, called in the process.
            name: of the encoder.
            dim: length of its vectors.
        """
        self.name = name
        self.dim = dim
        self._make = make
        self._pool: ProcessPoolExecutor | None = None
        self._guard = threading.Lock()
        self._closed = False

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return float32 (len(texts), dim), unit rows; releases the interpreter while it waits.

        Raises:
            EmbedderError: the encoder failed, or its process was killed or closed meanwhile.
        """
        pool, vectors = self._submit(list(texts))
        try:
            return vectors.result()
        except (BrokenProcessPool, CancelledError):
            with self._guard:
                if self._pool is pool:
                    self._pool = None
            pool.shutdown(wait=False)
            raise EmbedderError("the process that encodes documents ended") from None

    def close(self) -> None:
        """End the process; texts in work fail. Idempotent."""
        with self._guard:
            pool, self._pool, self._closed = self._pool, None, True
        if pool is not None:
            for process in list((pool._processes or {}).values()):
                process.kill()
            pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _submit(self, texts: list[str]) -> tuple[ProcessPoolExecutor, Future[FloatArray]]:
        with self._guard:
            if self._closed:
                raise EmbedderError("the encoder of documents is closed")
            pool = self._pool = self._pool or self._start()
            try:
                return pool, pool.submit(_embed, texts)
            except BrokenProcessPool:  # killed while it had nothing to do
                pool.shutdown(wait=False)
                pool = self._pool = self._start()
                return pool, pool.submit(_embed, texts)

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, context, initializer=_begin, initargs=(self._make,))


def _begin(make: Callable[[], Embedder]) -> None:
    global _make
    belong_to_parent()
    stand_aside()
    _make = make


def stand_aside() -> None:
    """Let this process run only where a processor has nothing else to do, or nearly so."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # not Linux, or not allowed
        os.nice(19)


def _embed(texts: list[str]) -> FloatArray:
    global _embedder
    if _embedder is None:
        _embedder = _make()
    return _embedder.embed(texts)
