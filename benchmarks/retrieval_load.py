"""A bridge with other things to do: searches while documents come in, and a disk that is slow."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import cast

import aiohttp

from ..rag.base import Embedder
from ..rag.bridge import serve_bridge
from ..rag.embed_worker import EmbedWorker
from ..rag.library import DEFAULT, Incoming, Library
from ..rag.store.base import Key, PassageStore, Scored, StoredPassage
from ..rag.store.filters import Filter
from .loop_watch import watch_loop
from .report import Json, Number
from .retrieval_quality import TOP, Searcher
from .stats import p50, p95, quantile, ratio

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
    calm: list[float] = []
    busy: list[float] = []
    with _switching():
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
        "loop_late_ms.quiet.max": max(calm, default=None),
        "loop_late_ms.p99": quantile(busy, 0.99),
        "ticks": len(busy),
    }
    return case, {
        "retrieval.ingest.search_p95_over_quiet": ratio(p95(busy_ms), p95(quiet_ms)),
        "retrieval.ingest.loop_late_ms.max": max(busy, default=None),
        "retrieval.ingest.documents_lost": float(len(documents) - len(kept)),
    }


async def slow_disk(
    store: PassageStore, embedder: Embedder, embed: EmbedWorker
) -> tuple[Json, dict[str, Number]]:
    """Fifty clients with 50 ms each against a store whose every read takes 200 ms.

    Clients and bridge share this process: ``late_ms`` has the clients' own work in it,
    ``inside_late_ms`` is what the bridge says of itself.
    """
    slow = cast(PassageStore, _SlowStore(store))
    library = Library(lambda _: slow, [DEFAULT], embedder)
    answers: list[tuple[float, bool, int]] = []
    inside_ms: list[float] = []

    async def client(number: int, http: aiohttp.ClientSession) -> None:
        for turn in range(ROUNDS):
            body = {
                "query": f"client {number} asks how to read a file in round {turn}",
                "session_id": f"client-{number}",
                "revision": turn,
                "deadline_ms": DEADLINE_MS,
            }
            began = time.perf_counter()
            async with http.post("/v1/retrieve", json=body) as response:
                status, answer = response.status, await response.json()
            took_ms = (time.perf_counter() - began) * 1000.0
            told = status == HTTPStatus.OK and bool(answer["degraded"])
            if status == HTTPStatus.OK:
                inside_ms.append(answer["timings_ms"]["total"])
            answers.append((took_ms, told, status))
            await asyncio.sleep(0.1)

    try:
        async with (
            serve_bridge(library, embed, port=0) as url,
            aiohttp.ClientSession(url) as http,
        ):
            await asyncio.gather(*(client(number, http) for number in range(CLIENTS)))
    finally:
        await library.aclose()
    late = [took - DEADLINE_MS for took, _, _ in answers]
    case: Json = {
        "answers": len(answers),
        "statuses": {str(s): sum(a[2] == s for a in answers) for s in {a[2] for a in answers}},
        "said_degraded": sum(told for _, told, _ in answers),
        "late_ms.p50": p50(late),
        "late_ms.p95": p95(late),
        "inside_late_ms.p50": p50([took - DEADLINE_MS for took in inside_ms]),
        "inside_late_ms.max": max((took - DEADLINE_MS for took in inside_ms), default=None),
    }
    return case, {"retrieval.overload.late_ms.max": max(late)}


async def _paced(
    searcher: Searcher, texts: Sequence[str], late_ms: list[float], over: Callable[[], bool]
) -> list[float]:
    """Search every 50 ms until the texts are used up or it is over; return milliseconds."""
    found = []
    async with watch_loop(late_ms):
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


@contextmanager
def _switching() -> Generator[None, None, None]:
    """The interpreter hands over every millisecond, as in ``livemind bridge serve``."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)


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
