"""A bridge with other things to do: searches while documents come in, and a disk that is slow."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import cast

from ...rag.base import Embedder
from ...rag.bridge.server import serve_bridge
from ...rag.encoder.worker import EmbedWorker
from ...rag.search.library import DEFAULT, Incoming, Library
from ...rag.store.base import Key, PassageStore, Scored, StoredPassage
from ...rag.store.filters import Filter
from ..figures.answer import Json, Number
from ..figures.stats import p50, p95, quantile, ratio
from ..harness.loop_watch import SHORT_TICK_S, Ticks, watch_loop
from .clients import ask
from .quality import TOP, Searcher

GAP_S = 0.05
CLIENTS, ROUNDS = 50, 4
DEADLINE_MS = 50.0
SLOW_S = 0.2


async def beside_ingestion(
    searcher: Searcher, name: str, folder: Path, files: Sequence[Path], texts: Sequence[str]
) -> tuple[Json, dict[str, Number]]:
    """Search at a fixed pace, alone and while copies of pages are ingested under new names.

    The same texts in the same order both times; the loop's lateness is that of one shared by
    searches and ingestion, as in ``livemind bridge serve``.
    """
    calm, busy = Ticks(), Ticks()
    quiet_ms = await _paced(searcher, texts, calm, lambda: False)
    stored = asyncio.ensure_future(_ingest(searcher.library, name, folder, files))
    try:
        busy_ms = await _paced(searcher, texts, busy, stored.done)
        documents, passages, seconds = await stored
    finally:
        stored.cancel()
        await asyncio.gather(stored, return_exceptions=True)
    kept = await searcher.library.read(lambda: searcher.store.hashes(documents))
    case: Json = {
        "quiet": {"searches": len(quiet_ms), "p50_ms": p50(quiet_ms), "p95_ms": p95(quiet_ms)},
        "ingesting": {"searches": len(busy_ms), "p50_ms": p50(busy_ms), "p95_ms": p95(busy_ms)},
        "documents": len(documents),
        "documents_found_afterwards": len(kept),
        "passages": passages,
        "passages_per_s": passages / seconds if seconds else None,
        "loop_late_ms.quiet.max": max(calm.late_ms, default=None),
        "loop_late_ms.p99": quantile(busy.late_ms, 0.99),
        "loop_busy_ms.p99": quantile(busy.busy_ms, 0.99),
        "ticks": len(busy.late_ms),
    }
    return case, {
        "retrieval.ingest.search_p95_over_quiet": ratio(p95(busy_ms), p95(quiet_ms)),
        "retrieval.ingest.loop_late_ms.max": max(busy.late_ms, default=None),
        "retrieval.ingest.loop_busy_ms.max": max(busy.busy_ms, default=None),
        "retrieval.ingest.documents_lost": float(len(documents) - len(kept)),
    }


async def slow_disk(
    store: PassageStore, embedder: Embedder, embed: EmbedWorker
) -> tuple[Json, dict[str, Number]]:
    """Fifty clients with 50 ms each against a store whose every read takes 200 ms.

    The clients have a process of their own; ``inside_late_ms`` is what the bridge says of itself.
    The first round is not counted: it warms up.
    """
    slow = cast(PassageStore, _SlowStore(store))
    library = Library(lambda _: slow, [DEFAULT], embedder)
    loop = asyncio.get_running_loop()
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:
            async with serve_bridge(library, embed, port=0) as url:
                asked = partial(ask, url, CLIENTS, ROUNDS + 1, DEADLINE_MS)
                found = (await loop.run_in_executor(apart, asked))[CLIENTS:]
    finally:
        await library.aclose()
    late = [one.took_ms - DEADLINE_MS for one in found]
    inside_ms = [one.inside_ms for one in found if one.inside_ms is not None]
    case: Json = {
        "answers": len(found),
        "statuses": dict(Counter(str(one.status) for one in found)),
        "said_degraded": sum(one.degraded for one in found),
        "late_ms.p50": p50(late),
        "late_ms.p95": p95(late),
        "inside_late_ms.p50": p50([took - DEADLINE_MS for took in inside_ms]),
        "inside_late_ms.max": max((took - DEADLINE_MS for took in inside_ms), default=None),
    }
    return case, {"retrieval.overload.late_ms.max": max(late)}


async def _paced(
    searcher: Searcher, texts: Sequence[str], ticks: Ticks, over: Callable[[], bool]
) -> list[float]:
    """Search every 50 ms until the texts are used up or it is over; return milliseconds."""
    found = []
    async with watch_loop(ticks, SHORT_TICK_S):
        for text in texts:
            if over():
                break
            began = time.perf_counter()
            await searcher(text, TOP)
            took_s = time.perf_counter() - began
            found.append(took_s * 1000.0)
            await asyncio.sleep(max(GAP_S - took_s, 0.0))
    return found


async def _ingest(
    library: Library, name: str, folder: Path, files: Sequence[Path]
) -> tuple[list[str], int, float]:
    ids, passages, began = [], 0, time.perf_counter()
    for path in files:
        source = f"copy/{path.relative_to(folder).as_posix()}"
        content = await asyncio.to_thread(path.read_bytes)
        stored = await library.ingest(name, [Incoming(source, source, "html", content)])
        ids.append(source)
        passages += stored[source]
    return ids, passages, time.perf_counter() - began


class _SlowStore:
    """A store whose reads from disk take their time; what is in memory does not."""

    def __init__(self, store: PassageStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def sparse(self, query: str, k: int, where: Filter | None = None) -> list[Scored]:
        """As the store, later."""
        time.sleep(SLOW_S)
        return self._store.sparse(query, k, where)

    def passages(self, keys: Sequence[Key]) -> dict[Key, StoredPassage]:
        """As the store, later."""
        time.sleep(SLOW_S)
        return self._store.passages(keys)

    def close(self) -> None:
        """Leave it open: it belongs to somebody else."""
