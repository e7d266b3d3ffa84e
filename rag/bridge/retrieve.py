"""The bridge's searching routes: its own, and the one that OpenAI's clients know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiohttp import web

from ..encoder.kinds import min_score
from ..encoder.worker import EmbedWorker
from ..search.fusion import ENOUGH_WORDS, Found
from ..search.library import Library
from ..search.rerank import Reranker
from ..search.search import Progress, Question, search
from ..store.base import PassageStore
from ..wire import (
    OVERLOADED,
    RetrieveAnswer,
    RetrievedText,
    RetrieveRequest,
    RetrieveTimings,
    Scores,
    SearchRequest,
)
from .api import MAX_BODY_BYTES, BridgeRefusal, parse, read_body
from .metrics import BridgeMetrics
from .supersession import Superseded, Supersession

NO_TIME_TO_READ = f"{OVERLOADED}: reads from disk wait longer than the deadline"


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """Limits of one bridge.

    Attributes:
        max_concurrent: retrievals at once; more are answered 429.
        max_sessions: sessions whose newest revision is remembered.
        writable: whether documents can be stored and removed over HTTP.
        search_deadline_s: of the searches of OpenAI's clients, which name none.
    """

    max_concurrent: int = 64
    max_sessions: int = 4096
    writable: bool = True
    search_deadline_s: float = 10.0


class RetrieveRoutes:
    """Answers retrievals. A request is validated, embedded and searched inside its deadline."""

    def __init__(
        self,
        library: Library,
        embed: EmbedWorker,
        settings: BridgeSettings,
        metrics: BridgeMetrics,
        reranker: Reranker | None,
    ) -> None:
        self._library = library
        self._embed = embed
        self._settings = settings
        self._metrics = metrics
        self._reranker = reranker
        self._supersession = Supersession(settings.max_sessions)
        self._active = 0

    async def retrieve(self, request: web.Request) -> web.Response:
        """``POST /v1/retrieve``: passages for one revision of a session's text."""
        asked = parse(RetrieveRequest, await read_body(request, MAX_BODY_BYTES))
        with self._slot():
            return await self._retrieve(asked)

    async def vector_store_search(self, request: web.Request) -> web.Response:
        """``POST /v1/vector_stores/{id}/search``: the same search for OpenAI's clients."""
        asked = parse(SearchRequest, await read_body(request, MAX_BODY_BYTES))
        if not asked.query.strip():
            raise BridgeRefusal(400, "invalid_value", "query: the text is empty", param="query")
        least = asked.ranking_options.score_threshold
        question = Question(
            asked.query, asked.max_num_results, "hybrid", least, asked.filters, final=True
        )
        progress = Progress()
        store = self._library.store(request.match_info["id"])
        limit_s = self._settings.search_deadline_s
        with self._slot():
            try:
                async with asyncio.timeout(limit_s):
                    await self._search(store, question, progress)
            except TimeoutError:
                if not progress.found:
                    why = f"nothing found within {limit_s:g} s"
                    raise BridgeRefusal(503, "deadline", why, retry_after_s=1) from None
        data = [
            {
                "file_id": found.passage.document_id,
                "filename": found.passage.source,
                "score": found.score,
                "attributes": dict(found.passage.metadata),
                "content": [{"type": "text", "text": found.passage.text}],
            }
            for found in progress.found[: asked.max_num_results]
        ]
        page = {
            "object": "vector_store.search_results.page",
            "search_query": [asked.query],
            "data": data,
            "has_more": False,
            "next_page": None,
        }
        return web.json_response(page)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """Count a retrieval, from when its body is there; refuse it when too many run."""
        if self._active >= self._settings.max_concurrent:
            limit = f"{self._settings.max_concurrent} retrievals are running, the limit"
            raise BridgeRefusal(429, "overloaded", limit, retry_after_s=1)
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    async def _search(self, store: PassageStore, question: Question, progress: Progress) -> None:
        embed = self._library.asks_with(store, self._embed)
        await search(self._library, store, embed, question, progress, self._reranker)

    async def _retrieve(self, asked: RetrieveRequest) -> web.Response:
        began = time.perf_counter()
        progress = Progress(pending=["embed"])
        degraded: list[str] = []
        store = self._library.store(asked.collection)
        own = asked.min_score is None
        question = Question(
            asked.query,
            asked.top_k,
            asked.mode,
            min_score(store.model) if asked.min_score is None else asked.min_score,
            asked.filter,
            final=not asked.partial,
            enough_words=ENOUGH_WORDS if own else None,
        )
        deadline_s = asked.deadline_ms / 1000.0
        try:
            async with self._supersession.turn(asked.session_id, asked.revision, deadline_s):
                if self._library.read_wait_s(self._active - 1) < deadline_s:
                    await self._search(store, question, progress)
                else:  # every search ends with reading its passages
                    progress.pending = [NO_TIME_TO_READ]
        except Superseded:
            self._metrics.superseded()
            newer = f"a newer revision than {asked.revision} of this session is known"
            raise BridgeRefusal(409, "superseded", newer, param="revision") from None
        except TimeoutError:
            degraded += [f"deadline: {stage}" for stage in progress.pending]
        else:
            degraded += progress.pending
        progress.ms["total"] = (time.perf_counter() - began) * 1000.0
        self._metrics.answered(progress.ms, degraded)
        known = frozenset(asked.known)
        answer = RetrieveAnswer(
            revision=asked.revision,
            index_version=store.version,
            results=tuple(
                _shown(found, rank, known)
                for rank, found in enumerate(progress.found[: asked.top_k], 1)
            ),
            degraded=tuple(degraded),
            provisional=asked.partial and self._reranker is not None,
            timings_ms=RetrieveTimings(**progress.ms),
            request_id=asked.request_id,
        )
        return web.Response(body=answer.model_dump_json(), content_type="application/json")


def _shown(found: Found, rank: int, known: frozenset[str]) -> RetrievedText:
    passage = found.passage
    return RetrievedText(
        id=passage.id,
        source=passage.source,
        text=None if passage.hash in known else passage.text,
        score=found.score,
        rank=rank,
        document_id=passage.document_id,
        hash=passage.hash,
        tokens=passage.tokens,
        scores=Scores(dense=found.dense, sparse=found.sparse, rerank=found.rerank),
        metadata=passage.metadata,
        title=passage.title,
    )
