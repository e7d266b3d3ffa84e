"""One search: words and vectors side by side, fused, reranked if there is time.

Owns the stages and what is left when the deadline cuts one off, or the encoder fails.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from ..base import FloatArray
from ..encoder.embedder import EmbedderError
from ..encoder.worker import EmbedWorker
from ..store.base import PassageStore, Scored
from ..store.filters import Filter
from .fusion import Found, Fused, Mode, fuse, spread
from .library import Library
from .rerank import Reranker

T = TypeVar("T")

CANDIDATES = 40
RERANKED = 20


@dataclass(slots=True)
class Progress:
    """What a search has reached, readable at any time, also after it was cancelled."""

    found: tuple[Found, ...] = ()
    pending: list[str] = field(default_factory=list)
    ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one collection.

    Attributes:
        min_score, enough_words: see ``fusion.fuse``.
        final: allows reranking.
    """

    query: str
    top_k: int
    mode: Mode
    min_score: float
    where: Filter | None = None
    final: bool = False
    enough_words: float | None = None


async def search(
    library: Library,
    store: PassageStore,
    embed: EmbedWorker,
    asked: Question,
    progress: Progress,
    reranker: Reranker | None = None,
) -> None:
    """Fill ``progress``; may be cancelled at any time, what is there then is a valid answer.

    A hybrid search whose encoder fails or is overloaded goes by the words alone: ``embed`` stays
    in ``progress.pending``.

    Raises:
        UnknownFilterKey: see there.
        EmbedderError: see there; the mode is dense.
    """
    width = max(CANDIDATES, 2 * asked.top_k)
    stages: dict[str, asyncio.Task[list[Scored] | None]] = {}
    vectors: list[FloatArray] = []
    try:
        async with asyncio.TaskGroup() as group:
            if asked.mode != "dense":
                ask = lambda: store.sparse(asked.query, width, asked.where)  # noqa: E731
                run = library.read if asked.where is None else library.scan
                work = _timed(progress, "sparse", run(ask))
                stages["sparse"] = group.create_task(work)
            if asked.mode != "sparse":
                stages["dense"] = group.create_task(
                    _dense(library, store, embed, asked, width, progress, vectors)
                )
            progress.pending = _unfinished(stages, {}, progress)
            for first in asyncio.as_completed(list(stages.values())):
                with suppress(Exception):  # the group raises it
                    await first
                done = {name: t for name, t in stages.items() if t.done() and not t.cancelled()}
                if all(t.exception() is None for t in done.values()):
                    results = {name: t.result() for name, t in done.items()}
                    lists = {name: found for name, found in results.items() if found is not None}
                    if len(lists) == 2:
                        await _complete(library, store, vectors[0], lists, progress)
                    began = time.perf_counter()
                    fused = fuse(lists, asked.mode, asked.min_score, asked.enough_words)
                    wanted = max(2 * asked.top_k, RERANKED if reranker and asked.final else 0)
                    found = await _fetch(library, store, fused[:wanted])
                    progress.found = spread(found) if asked.mode == "hybrid" else found
                    progress.ms["passages"] = (time.perf_counter() - began) * 1000.0
                    progress.pending = _unfinished(stages, lists, progress)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    if reranker is not None and asked.final and progress.found:
        missing = progress.pending
        progress.pending = [*missing, "rerank"]
        began = time.perf_counter()
        reranked = await reranker.rerank(asked.query, progress.found)
        progress.ms["rerank"] = (time.perf_counter() - began) * 1000.0
        if reranked is not None:
            progress.found, progress.pending = reranked, missing
    progress.found = progress.found[: asked.top_k]


def _unfinished(
    stages: Mapping[str, object], done: Mapping[str, object], progress: Progress
) -> list[str]:
    """Name what is being waited for; a dense search waits for its vector first."""
    waiting = [name for name in stages if name not in done]
    return ["embed" if n == "dense" and "embed" not in progress.ms else n for n in waiting]


async def _dense(
    library: Library,
    store: PassageStore,
    embed: EmbedWorker,
    asked: Question,
    width: int,
    progress: Progress,
    vectors: list[FloatArray],
) -> list[Scored] | None:
    """Return None when there is no vector and the words may do; adds the question's vector."""
    try:
        vector = await _timed(progress, "embed", embed.embed(asked.query))
    except EmbedderError:
        if asked.mode != "hybrid":
            raise
        return None
    vectors.append(vector)
    progress.pending = ["dense" if name == "embed" else name for name in progress.pending]
    where = asked.where
    ask: Callable[[], list[Scored]] = lambda: store.dense(vector, width, where)  # noqa: E731
    run = library.search if where is None else library.scan  # a filter reads from disk
    return await _timed(progress, "dense", run(ask))


async def _complete(
    library: Library,
    store: PassageStore,
    vector: FloatArray,
    lists: dict[str, list[Scored]],
    progress: Progress,
) -> None:
    """Give the passages that only the words found their cosines."""
    near = {key for key, _ in lists["dense"]}
    others = [key for key, _ in lists["sparse"] if key not in near]
    if others:
        began = time.perf_counter()
        cosines = await library.search(lambda: store.cosines(vector, others))
        found = sorted(cosines.items(), key=lambda scored: -scored[1])
        lists["dense"] = [*lists["dense"], *found]
        progress.ms["dense"] += (time.perf_counter() - began) * 1000.0


async def _timed(progress: Progress, name: str, work: Awaitable[T]) -> T:
    began = time.perf_counter()
    found = await work
    progress.ms[name] = (time.perf_counter() - began) * 1000.0
    return found


async def _fetch(
    library: Library, store: PassageStore, fused: Sequence[Fused]
) -> tuple[Found, ...]:
    keys = [entry.key for entry in fused]
    passages = await library.read(lambda: store.passages(keys)) if keys else {}
    return tuple(
        Found(passages[f.key], f.score, f.dense, f.sparse) for f in fused if f.key in passages
    )
