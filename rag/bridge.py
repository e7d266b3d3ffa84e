"""The bridge: a small HTTP service that finds passages for text that is still being typed.

Owns the routes and the life of the server. A request passes three stages, each inside the caller's
deadline: validate, embed, search. What the deadline cuts off is reported as ``degraded``.
"""

from __future__ import annotations

import asyncio
import signal
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from aiohttp import web

from .base import Passage
from .bridge_api import (
    MAX_BODY_BYTES,
    BridgeRefusal,
    errors_as_envelopes,
    parse_retrieve,
)
from .collection import Collection
from .corpus import CorpusError
from .embed_worker import EmbedWorker
from .embedder import EmbedderError, MiniLMEmbedder
from .supersession import Superseded, Supersession
from .wire import RetrieveAnswer, RetrievedText, RetrieveRequest, RetrieveTimings

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8001


class BridgeError(Exception):
    """The bridge cannot start; the message says why."""


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """Limits of one bridge.

    Attributes:
        name: of its one collection.
        max_concurrent: retrievals at once; more are answered 429.
        max_sessions: sessions whose newest revision is remembered.
    """

    name: str = "default"
    max_concurrent: int = 64
    max_sessions: int = 4096


@dataclass(slots=True)
class _Progress:
    """What a retrieval has reached when its deadline strikes."""

    stage: str = "embed"
    embed_ms: float | None = None
    search_ms: float | None = None
    passages: tuple[Passage, ...] = ()


class Bridge:
    """Answers retrievals from one collection."""

    def __init__(
        self, collection: Collection, embed: EmbedWorker, settings: BridgeSettings
    ) -> None:
        self._collection = collection
        self._embed = embed
        self._settings = settings
        self._supersession = Supersession(settings.max_sessions)
        self._active = 0

    async def retrieve(self, request: web.Request) -> web.Response:
        """``POST /v1/retrieve``: passages for one revision of a session's text."""
        if self._active >= self._settings.max_concurrent:
            limit = f"{self._settings.max_concurrent} retrievals are running, the limit"
            raise BridgeRefusal(429, "overloaded", limit, retry_after_s=1)
        self._active += 1
        try:
            return await self._retrieve(parse_retrieve(await request.read()))
        finally:
            self._active -= 1

    async def _retrieve(self, asked: RetrieveRequest) -> web.Response:
        progress = _Progress()
        degraded: list[str] = []
        deadline_s = asked.deadline_ms / 1000.0
        try:
            async with self._supersession.turn(asked.session_id, asked.revision, deadline_s):
                await self._search(asked, progress)
        except Superseded:
            newer = f"a newer revision than {asked.revision} of this session is known"
            raise BridgeRefusal(409, "superseded", newer, param="revision") from None
        except TimeoutError:
            degraded.append(f"deadline: {progress.stage}")
        answer = RetrieveAnswer(
            revision=asked.revision,
            index_version=self._collection.version,
            results=tuple(
                RetrievedText(**asdict(passage), rank=rank)
                for rank, passage in enumerate(progress.passages, 1)
            ),
            degraded=tuple(degraded),
            timings_ms=RetrieveTimings(embed=progress.embed_ms, search=progress.search_ms),
            request_id=asked.request_id,
        )
        return web.Response(body=answer.model_dump_json(), content_type="application/json")

    async def _search(self, asked: RetrieveRequest, progress: _Progress) -> None:
        began = time.perf_counter()
        vector = await self._embed.embed(asked.query)
        embedded = time.perf_counter()
        progress.embed_ms = (embedded - began) * 1000.0
        progress.stage = "search"
        await asyncio.sleep(0)  # lets a deadline or a newer revision in before an inline search
        passages = await self._collection.search(vector, asked.top_k, asked.min_score)
        progress.search_ms = (time.perf_counter() - embedded) * 1000.0
        progress.passages = passages

    async def healthz(self, _: web.Request) -> web.Response:
        """``GET /healthz``: the process answers."""
        return web.json_response({"status": "ok"})

    async def readyz(self, _: web.Request) -> web.Response:
        """``GET /readyz``: a retrieval would be answered."""
        if self._embed.closed:
            raise BridgeRefusal(503, "not_ready", "the embedding worker is closed", retry_after_s=1)
        return web.json_response({"status": "ready", "index_version": self._collection.version})

    async def collections(self, _: web.Request) -> web.Response:
        """``GET /v1/collections``: what is served, and the encoder's counters."""
        collection = {
            "name": self._settings.name,
            "passages": len(self._collection.index),
            "sources": len({p.source for p in self._collection.corpus.passages}),
            "dim": self._collection.index.dim,
            "index": self._collection.index.method,
            "embedder": self._embed.name,
            "index_version": self._collection.version,
        }
        return web.json_response(
            {"collections": [collection], "embedding": asdict(self._embed.stats())}
        )


def bridge_app(
    collection: Collection, embed: EmbedWorker, settings: BridgeSettings | None = None
) -> web.Application:
    """Return the aiohttp application; it does not close ``embed``.

    Raises:
        ValueError: the encoder's vectors are not as long as the index's.
    """
    if embed.dim != collection.index.dim:
        raise ValueError(f"{embed.name} has {embed.dim} dimensions, index {collection.index.dim}")
    bridge = Bridge(collection, embed, settings or BridgeSettings())
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[errors_as_envelopes])
    app.router.add_post("/v1/retrieve", bridge.retrieve)
    app.router.add_get("/v1/collections", bridge.collections)
    app.router.add_get("/healthz", bridge.healthz)
    app.router.add_get("/readyz", bridge.readyz)
    return app


@asynccontextmanager
async def serve_bridge(
    collection: Collection,
    embed: EmbedWorker,
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    settings: BridgeSettings | None = None,
) -> AsyncIterator[str]:
    """Serve the collection from this event loop; yields the base URL, closes every socket after.

    Args:
        collection: what to search; ``Collection.load`` reads a folder (off the event loop).
        embed: shared with others; not closed here.
        host: address to bind.
        port: 0 = any free one, named in the URL.
        settings: limits.

    Raises:
        BridgeError: the address cannot be bound.
    """
    # A client that goes away cancels its handler, which drops a text that still waits.
    app = bridge_app(collection, embed, settings)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as exc:
            raise BridgeError(f"cannot listen on {host}:{port}: {exc.strerror}") from exc
        bound_host, bound_port = runner.addresses[0][:2]
        yield f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}"
    finally:
        await runner.cleanup()


def run_bridge(args: Namespace, say: Callable[[str], None] = print) -> int:
    """Serve until SIGINT or SIGTERM: the command ``livemind bridge serve``.

    Args:
        args: ``corpus`` (folder), ``host``, ``port``.
        say: prints a line for the user.

    Returns:
        Exit status: 0, or 1 with one line that says why it could not start.
    """
    try:
        asyncio.run(_run(Path(args.corpus), args.host, args.port, say))
    except (BridgeError, CorpusError, EmbedderError) as exc:
        say(f"livemind bridge: {exc}")
        return 1
    return 0


async def _run(folder: Path, host: str, port: int, say: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    embedder = await asyncio.to_thread(MiniLMEmbedder)
    collection = await asyncio.to_thread(Collection.load, folder, embedder)
    embed = EmbedWorker(embedder)
    try:
        async with serve_bridge(collection, embed, host=host, port=port) as url:
            index = collection.index
            count = f"{len(index)} passage{'s' if len(index) != 1 else ''}"
            say(f"bridge: {count} ({index.method} search) on {url}, ctrl-c to stop")
            await stop.wait()
    finally:
        await embed.aclose()
