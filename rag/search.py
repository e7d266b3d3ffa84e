"""One search: words and vectors side by side, fused by rank, reranked if there is time.

Owns the stages and what is left when the deadline cuts one off. Reciprocal rank fusion after
Cormack, Clarke and Buettcher, SIGIR 2009: the sum of 1 / (60 + rank), no scores to calibrate.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar

from .embed_worker import EmbedWorker
from .library import Library
from .rerank import Reranker
from .store.base import Key, PassageStore, Scored, StoredPassage
from .store.filters import Filter

T = TypeVar("T")
Mode = Literal["dense", "sparse", "hybrid"]

RRF = 60
CANDIDATES = 40
RERANKED = 20


@dataclass(frozen=True, slots=True)
class Found:
    """A passage with its place in each ranking; ``score`` is the one that ordered it."""

    passage: StoredPassage
    score: float
    dense: float | None = None
    sparse: float | None = None
    rerank: float | None = None


@dataclass(slots=True)
class Progress:
    """What a search has reached, readable at any time, also after it was cancelled."""

    found: tuple[Found, ...] = ()
    pending: list[str] = field(default_factory=list)
    ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one collection; ``final`` allows reranking."""

    query: str
    top_k: int
    mode: Mode
    min_score: float
    where: Filter | None = None
    final: bool = False


class _Fused(NamedTuple):
    key: Key
    score: float
    dense: float | None
    sparse: float | None


async def search(
    library: Library,
    store: PassageStore,
    embed: EmbedWorker,
    asked: Question,
    progress: Progress,
    reranker: Reranker | None = None,
) -> None:
    """Fill ``progress``; may be cancelled at any time, what is there then is a valid answer.

    Raises:
        UnknownFilterKey, EmbedderError: see there.
    """
    width = max(CANDIDATES, 2 * asked.top_k)
    stages: dict[str, asyncio.Task[list[Scored]]] = {}
    try:
        async with asyncio.TaskGroup() as group:
            if asked.mode != "dense":
                ask = lambda: store.sparse(asked.query, width, asked.where)  # noqa: E731
                work = _timed(progress, "sparse", library.read(ask))
                stages["sparse"] = group.create_task(work)
            if asked.mode != "sparse":
                stages["dense"] = group.create_task(
                    _dense(library, store, embed, asked, width, progress)
                )
            progress.pending = _unfinished(stages, {}, progress)
            for first in asyncio.as_completed(list(stages.values())):
                with suppress(Exception):  # the group raises it
                    await first
                done = {name: t for name, t in stages.items() if t.done() and not t.cancelled()}
                if all(t.exception() is None for t in done.values()):
                    lists = {name: t.result() for name, t in done.items()}
                    began = time.perf_counter()
                    fused = _fuse(lists, asked)
                    wanted = max(asked.top_k, RERANKED if reranker and asked.final else 0)
                    progress.found = await _fetch(library, store, fused[:wanted])
                    progress.ms["passages"] = (time.perf_counter() - began) * 1000.0
                    progress.pending = _unfinished(stages, lists, progress)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    if reranker is not None and asked.final and progress.found:
        progress.pending = ["rerank"]
        began = time.perf_counter()
        reranked = await reranker.rerank(asked.query, progress.found)
        progress.ms["rerank"] = (time.perf_counter() - began) * 1000.0
        if reranked is not None:
            progress.found, progress.pending = reranked, []
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
) -> list[Scored]:
    vector = await _timed(progress, "embed", embed.embed(asked.query))
    progress.pending = ["dense" if name == "embed" else name for name in progress.pending]
    where = asked.where
    ask: Callable[[], list[Scored]] = lambda: store.dense(vector, width, where)  # noqa: E731
    run = library.search if where is None else library.read  # a filter reads from disk
    return await _timed(progress, "dense", run(ask))


async def _timed(progress: Progress, name: str, work: Awaitable[T]) -> T:
    began = time.perf_counter()
    found = await work
    progress.ms[name] = (time.perf_counter() - began) * 1000.0
    return found


def _fuse(lists: dict[str, list[Scored]], asked: Question) -> list[_Fused]:
    """Return the candidates, best first; a passage without a cosine does not reach a minimum."""
    scores = {name: dict(found) for name, found in lists.items()}
    dense, sparse = scores.get("dense", {}), scores.get("sparse", {})
    ranked: dict[Key, float] = {}
    for found in lists.values():
        for rank, (key, _) in enumerate(found, 1):
            ranked[key] = ranked.get(key, 0.0) + 1.0 / (RRF + rank)
    if asked.mode != "hybrid":
        ranked = dense or sparse
    minimum = asked.min_score if "dense" in lists else float("-inf")
    fused = [
        _Fused(key, score, dense.get(key), sparse.get(key))
        for key, score in ranked.items()
        if (key in dense and dense[key] >= minimum) or (key not in dense and minimum <= 0.0)
    ]
    return sorted(fused, key=lambda f: (-f.score, str(f.key)))


async def _fetch(
    library: Library, store: PassageStore, fused: Sequence[_Fused]
) -> tuple[Found, ...]:
    keys = [entry.key for entry in fused]
    passages = await library.read(lambda: store.passages(keys)) if keys else {}
    return tuple(
        Found(passages[f.key], f.score, f.dense, f.sparse) for f in fused if f.key in passages
    )
