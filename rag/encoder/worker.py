"""The encoder as seen from an event loop: one thread, micro-batches, a cache.

Owns the queue of texts that wait for a vector. Router and bridge share one worker, so that a
partial text both ask about is encoded once. Texts are kept only while they wait; the cache is keyed
by their hash.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ..base import Embedder, FloatArray, LayeredEmbedder, TokenEmbedder
from .embedder import EmbedderError

Key = bytes


class EmbedQueueFull(EmbedderError):
    """As many texts wait as may; retryable."""


class EmbedWorkerClosed(EmbedderError):
    """The worker was closed before or while the text waited."""


@dataclass(frozen=True, slots=True)
class EmbedStats:
    """Counters since start. A text that joins one already waiting is a miss, but encoded once."""

    hits: int
    misses: int
    dropped: int
    batches: int
    cached: int
    queued: int


@dataclass(slots=True)
class _Job:
    text: str
    waiters: list[asyncio.Future[FloatArray]] = field(default_factory=list)


class EmbedWorker:
    """Encodes texts for the tasks of one event loop; all but the encoding runs on that loop."""

    def __init__(
        self,
        embedder: Embedder,
        *,
        max_queue: int = 256,
        cache_size: int = 20_000,
        max_batch: int = 16,
    ) -> None:
        """Wrap ``embedder``; the thread starts with the first text.

        Args:
            embedder: called from one thread at a time.
            max_queue: texts that may wait, >= 1; the batch in work is not counted.
            cache_size: vectors kept, least recently used out first; 0 = no cache.
            max_batch: texts per call, >= 1; a newcomer waits for one batch at most before its own.
        """
        if max_queue < 1 or max_batch < 1 or cache_size < 0:
            raise ValueError(
                f"max_queue {max_queue} and max_batch {max_batch} must be >= 1, "
                f"cache_size {cache_size} >= 0"
            )
        self._embedder = embedder
        self._encode, self._width = embedder.embed, embedder.dim
        if isinstance(embedder, LayeredEmbedder):
            self._encode, self._width = embedder.embed_layers, 2 * embedder.dim
        self._max_queue = max_queue
        self._cache_size = cache_size
        self._max_batch = max_batch
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="livemind-embed")
        self._cache: OrderedDict[Key, FloatArray] = OrderedDict()
        self._queue: dict[Key, _Job] = {}
        self._working: dict[Key, _Job] = {}
        self._running: asyncio.Future[FloatArray] | None = None
        self._closed = False
        self._hits = self._misses = self._dropped = self._batches = 0

    @property
    def name(self) -> str:
        """The encoder's name."""
        return self._embedder.name

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._embedder.dim

    @property
    def tokens(self) -> TokenEmbedder | None:
        """Who counts and reads the encoder's tokens; None where it tells nothing of them."""
        return self._embedder if isinstance(self._embedder, TokenEmbedder) else None

    @property
    def closed(self) -> bool:
        """Whether ``aclose`` was called."""
        return self._closed

    def stats(self) -> EmbedStats:
        """Return the counters."""
        return EmbedStats(
            self._hits,
            self._misses,
            self._dropped,
            self._batches,
            cached=len(self._cache),
            queued=len(self._queue),
        )

    async def embed(self, text: str) -> FloatArray:
        """Return the text's unit vector, float32 (dim,), read-only and shared with other callers.

        Cancelling drops the text unless its batch has begun or somebody else waits for it too.

        Raises:
            EmbedQueueFull: ``max_queue`` texts wait already; retryable.
            EmbedWorkerClosed: the worker is closed.
            EmbedderError: the encoder failed on this batch.
        """
        return (await self.embed_layers(text))[: self.dim]

    async def embed_layers(self, text: str) -> FloatArray:
        """Return the text's vector and, from a ``LayeredEmbedder``, its middle layer behind it.

        Float32 (dim,) or (2 * dim,); for the rest see ``embed``.
        """
        if self._closed:
            raise EmbedWorkerClosed("the embedding worker is closed")
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if (vector := self._cache.get(key)) is not None:
            self._hits += 1
            self._cache.move_to_end(key)
            return vector
        self._misses += 1
        job = self._working.get(key) or self._queue.get(key)
        if job is None:
            if len(self._queue) >= self._max_queue:
                raise EmbedQueueFull(f"{self._max_queue} texts wait to be embedded, the limit")
            job = self._queue[key] = _Job(text)
        waiter: asyncio.Future[FloatArray] = asyncio.get_running_loop().create_future()
        job.waiters.append(waiter)
        self._start_batch()
        try:
            return await waiter
        finally:
            job.waiters.remove(waiter)
            if not job.waiters and self._queue.get(key) is job:
                del self._queue[key]
                self._dropped += 1

    async def aclose(self) -> None:
        """Refuse what waits, let the batch in work end, stop the thread. Idempotent."""
        self._closed = True
        queued, self._queue = self._queue, {}
        _fail(queued, EmbedWorkerClosed("the embedding worker was closed"))
        if self._running is not None:
            await asyncio.wait([self._running])
        self._executor.shutdown(wait=False)

    def _start_batch(self) -> None:
        if self._running is not None or not self._queue:
            return
        for key in list(self._queue)[: self._max_batch]:
            self._working[key] = self._queue.pop(key)
        self._batches += 1
        texts = [job.text for job in self._working.values()]
        loop = asyncio.get_running_loop()
        self._running = loop.run_in_executor(self._executor, self._encode, texts)
        self._running.add_done_callback(self._finish_batch)

    def _finish_batch(self, running: asyncio.Future[FloatArray]) -> None:
        jobs, self._working = self._working, {}
        self._running = None
        try:
            vectors = running.result()
            if vectors.shape != (wanted := (len(jobs), self._width)):
                raise EmbedderError(f"the encoder returned {vectors.shape}, need {wanted}")
        except EmbedderError as exc:
            _fail(jobs, exc)
        except Exception as exc:
            error = EmbedderError("the encoder failed")
            error.__cause__ = exc
            _fail(jobs, error)
        else:
            self._deliver_next(zip(jobs.items(), vectors, strict=True))
        self._start_batch()

    def _deliver_next(self, found: Iterator[tuple[tuple[Key, _Job], FloatArray]]) -> None:
        """Deliver one, the others in the loop's next rounds: what waiters do then takes time."""
        for (key, job), row in found:
            self._deliver(key, job, row)
            asyncio.get_running_loop().call_soon(self._deliver_next, found)
            return

    def _deliver(self, key: Key, job: _Job, row: FloatArray) -> None:
        vector = np.array(row, np.float32)  # a copy: a view would keep its whole batch alive
        vector.setflags(write=False)
        if self._cache_size:
            self._cache[key] = vector
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        for waiter in job.waiters:
            if not waiter.done():
                waiter.set_result(vector)


def _fail(jobs: dict[Key, _Job], error: EmbedderError) -> None:
    for job in jobs.values():
        for waiter in job.waiters:
            if not waiter.done():
                waiter.set_exception(error)
