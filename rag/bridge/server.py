"""The bridge: a small HTTP service that finds passages for text that is still being typed.

Owns the table of routes and the life of the server.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from aiohttp import web

from ..access.http_server import HttpRunner
from ..access.origins import is_loopback
from ..access.token import TokenError, default_file, shared_token
from ..base import Embedder
from ..documents.corpus import CorpusError, read_corpus
from ..documents.parse_process import ParseProcess
from ..encoder.embedder import EmbedderError, MiniLMEmbedder
from ..encoder.kinds import MINILM, EncoderKind
from ..encoder.process import ProcessEmbedder
from ..encoder.worker import EmbedWorker
from ..search.library import DEFAULT, Library
from ..search.rerank import Reranker
from ..store.base import PassageStore, StoreError
from ..store.milvus.schema import MilvusAddress, address_of
from ..store.milvus.store import MilvusStore, collection_names
from .api import MAX_UPSERT_BYTES, BridgeRefusal, errors_as_envelopes
from .documents import DocumentRoutes
from .entrance import Access, Identity, entrance, named
from .metrics import BridgeMetrics
from .retrieve import BridgeSettings, RetrieveRoutes
from .serving import responsive

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8001


class BridgeError(Exception):
    """The bridge cannot start; the message says why."""


class _Health:
    """The routes for operators."""

    def __init__(self, library: Library, embed: EmbedWorker, metrics: BridgeMetrics) -> None:
        self._library = library
        self._embed = embed
        self._metrics = metrics

    async def healthz(self, _: web.Request) -> web.Response:
        """``GET /healthz``: the process answers."""
        return web.json_response({"status": "ok"})

    async def readyz(self, _: web.Request) -> web.Response:
        """``GET /readyz``: a retrieval would be answered."""
        if self._embed.closed:
            raise BridgeRefusal(503, "not_ready", "the embedding worker is closed", retry_after_s=1)
        versions = {name: self._library.store(name).version for name in self._library.names}
        return web.json_response({"status": "ready", "index_versions": versions})

    async def collections(self, _: web.Request) -> web.Response:
        """``GET /v1/collections``: what is served, and the encoder's counters."""
        shown = []
        for name in self._library.names:
            stats = await self._library.scan(self._library.store(name).stats)
            shown.append({"name": name, **asdict(stats)})
        return web.json_response({"collections": shown, "embedding": asdict(self._embed.stats())})

    async def metrics(self, _: web.Request) -> web.Response:
        """``GET /metrics``: for Prometheus."""
        sizes = {}
        for name in self._library.names:
            sizes[name] = (await self._library.scan(self._library.store(name).stats)).passages
        body = self._metrics.text(sizes)
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4"})


def bridge_app(
    library: Library,
    embed: EmbedWorker,
    settings: BridgeSettings | None = None,
    reranker: Reranker | None = None,
    access: Access | None = None,
) -> web.Application:
    """Return the aiohttp application; it closes neither library, encoder nor reranker.

    ``access``: who may use it; None = whoever is on this machine and no web page of elsewhere.

    Raises:
        ValueError: the encoder's vectors are not as long as those of a collection.
    """
    for name in library.names:
        store = library.store(name)
        if store.model == embed.name and (dim := store.dim) != embed.dim:
            raise ValueError(f"{embed.name} has {embed.dim} dimensions, {name} has {dim}")
    settings = settings or BridgeSettings()
    metrics = BridgeMetrics()
    finds = RetrieveRoutes(library, embed, settings, metrics, reranker)
    keeps = DocumentRoutes(library, metrics, writable=settings.writable)
    health = _Health(library, embed, metrics)
    access = access or Access()
    app = web.Application(
        client_max_size=MAX_UPSERT_BYTES, middlewares=[errors_as_envelopes, entrance(access)]
    )
    app.router.add_get("/v1/identity", Identity(access).identity)
    app.router.add_post("/v1/retrieve", finds.retrieve)
    app.router.add_post("/v1/vector_stores/{id}/search", finds.vector_store_search)
    app.router.add_get("/v1/collections", health.collections)
    app.router.add_put("/v1/collections/{name}", keeps.create)
    app.router.add_get("/v1/collections/{name}/documents", keeps.list)
    app.router.add_post("/v1/collections/{name}/documents", keeps.upsert)
    app.router.add_delete("/v1/collections/{name}/documents", keeps.delete)
    app.router.add_get("/v1/jobs", keeps.jobs)
    app.router.add_get("/v1/jobs/{id}", keeps.job)
    app.router.add_delete("/v1/jobs/{id}", keeps.cancel)
    app.on_shutdown.append(keeps.aclose)
    app.router.add_get("/healthz", health.healthz)
    app.router.add_get("/readyz", health.readyz)
    app.router.add_get("/metrics", health.metrics)
    return app


@asynccontextmanager
async def serve_bridge(
    library: Library,
    embed: EmbedWorker,
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    settings: BridgeSettings | None = None,
    reranker: Reranker | None = None,
    access: Access | None = None,
) -> AsyncIterator[str]:
    """Serve the collections from this event loop; yields the base URL, closes every socket after.

    Args:
        library: what to search; not closed here.
        embed: of queries, shared with others; not closed here.
        host: address to bind.
        port: 0 = any free one, named in the URL.
        settings: limits.
        reranker: for final queries; not closed here.
        access: who may use it; None = see ``bridge_app``.

    Raises:
        BridgeError: the address cannot be bound.
    """
    # A client that goes away cancels its handler, which drops a text that still waits.
    access = Access(host) if access is None else access
    app = bridge_app(library, embed, settings, reranker, access)
    runner = HttpRunner(
        app,
        envelope=lambda status, code, told: BridgeRefusal(status, code, told).response(),
        name="livemind.bridge.http",
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=1.0,
    )
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


@asynccontextmanager
async def folder_library(
    folder: Path,
    embedder: Embedder,
    documents: Callable[[], Embedder] | None = None,
    passages: Embedder | None = None,
) -> AsyncIterator[Library]:
    """Yield a library with the folder's passages, gone afterwards with all that came in meanwhile.

    Args:
        folder: of ``.md`` and ``.txt`` files.
        embedder: of questions.
        documents: see ``data_library``.
        passages: encodes the folder; None = ``embedder``.

    Raises:
        CorpusError: the folder cannot be read.
    """
    corpus = await asyncio.to_thread(read_corpus, folder)
    with tempfile.TemporaryDirectory(prefix="livemind-bridge-") as kept:
        async with data_library(Path(kept), passages or embedder) as library:
            await library.add_corpus(DEFAULT, corpus)
        async with data_library(Path(kept), embedder, documents=documents) as library:
            yield library


@asynccontextmanager
async def data_library(
    folder: Path,
    embedder: Embedder,
    tokenizer: Path | None = None,
    documents: Callable[[], Embedder] | None = None,
    others: Sequence[EncoderKind] = (),
) -> AsyncIterator[Library]:
    """Yield the collections kept in a folder, closed afterwards.

    Args:
        folder: made if it is not there.
        embedder: of new collections.
        tokenizer: ``tokenizer.json`` by which passages are measured; None = by words.
        documents: returns another such encoder, in a process of its own, for documents that come
            in beside queries; None = ``embedder`` encodes them.
        others: encoders of collections that were made with another one.

    Raises:
        StoreError: the folder cannot be used, or an encoder is not here.
    """

    def opened(encoder: Embedder | None) -> Library:
        return Library.in_folder(folder, embedder, ParseProcess(tokenizer), encoder, others)

    async with _closed_after(opened, embedder, documents) as library:
        yield library


@asynccontextmanager
async def milvus_library(
    address: MilvusAddress,
    embedder: Embedder,
    tokenizer: Path | None = None,
    documents: Callable[[], Embedder] | None = None,
    others: Sequence[EncoderKind] = (),
) -> AsyncIterator[Library]:
    """Yield the collections of a Milvus database, closed afterwards; see ``data_library``."""

    def opened(encoder: Embedder | None) -> Library:
        names = collection_names(address)
        dims = {kind.name: kind.dim for kind in others}

        def open_store(name: str) -> PassageStore:
            return MilvusStore(address, name, embedder.name, embedder.dim, dims)

        return Library(open_store, names, embedder, ParseProcess(tokenizer), encoder, others)

    async with _closed_after(opened, embedder, documents) as library:
        yield library


@asynccontextmanager
async def _closed_after(
    opened: Callable[[Embedder | None], Library],
    embedder: Embedder,
    documents: Callable[[], Embedder] | None,
) -> AsyncIterator[Library]:
    process = documents and ProcessEmbedder(documents, embedder.name, embedder.dim)
    library = await asyncio.to_thread(opened, process)
    try:
        yield library
    finally:
        if process is not None:  # first: the batch in work could take minutes
            await asyncio.to_thread(process.close)
        await library.aclose()


def run_bridge(
    args: Namespace,
    say: Callable[[str], None] = print,
    kind: EncoderKind | None = None,
    others: Sequence[EncoderKind] = (),
) -> int:
    """Serve until SIGINT or SIGTERM: the command ``livemind bridge serve``.

    Args:
        args: ``corpus`` (folder), ``data`` (folder of collections) or ``milvus`` (address of a
            database), ``host``, ``port``; optional ``tokenizer``, ``rerank_url`` and
            ``rerank_model``, ``token_file``, ``allowed_host`` and ``allowed_origin``.
        say: prints a line for the user.
        kind: encoder of new collections; None = MiniLM.
        others: encoders that stored collections may be of.

    Returns:
        Exit status: 0, or 1 with one line that says why it could not start.
    """
    try:
        load = MiniLMEmbedder
        kind = kind or EncoderKind(MINILM.name, MINILM.dim, load, load)
        asyncio.run(_run(_serve(args, say, kind, others)))
    except (BridgeError, CorpusError, EmbedderError, StoreError, TokenError, ValueError) as exc:
        say(f"livemind bridge: {exc}")
        return 1
    return 0


async def _run(work: Coroutine[None, None, None]) -> None:
    serving = asyncio.create_task(work)

    def stop() -> None:
        if not serving.cancelling():  # a second signal does not cut the closing short
            serving.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    with suppress(asyncio.CancelledError):
        await serving


async def _serve(
    args: Namespace, say: Callable[[str], None], kind: EncoderKind, others: Sequence[EncoderKind]
) -> None:
    access = _access(args)
    if not is_loopback(args.host):
        kept_in = getattr(args, "token_file", None) or default_file()
        say(
            f"warning: {args.host} can be reached from other machines: they need the token in "
            f"{kept_in}, and send it unencrypted"
        )
    embedder = await asyncio.to_thread(kind.questions)
    data: Path | None = getattr(args, "data", None)
    milvus: str | None = getattr(args, "milvus", None)
    tokenizer: Path | None = getattr(args, "tokenizer", None)
    async with AsyncExitStack() as stack:
        if milvus is not None:
            address = address_of(milvus)
            kept = milvus_library(address, embedder, tokenizer, kind.passages, others)
        elif data is not None:
            kept = data_library(data, embedder, tokenizer, kind.passages, others)
        else:
            passages = None if kind.is_one else await asyncio.to_thread(kind.passages)
            kept = folder_library(Path(args.corpus), embedder, passages=passages)
        library = await stack.enter_async_context(kept)
        embed = EmbedWorker(embedder)
        stack.push_async_callback(embed.aclose)
        reranker = None
        if getattr(args, "rerank_url", None):
            reranker = Reranker(args.rerank_url, args.rerank_model)
            stack.push_async_callback(reranker.aclose)
        settings = BridgeSettings(writable=data is not None or milvus is not None)
        serving = serve_bridge(
            library,
            embed,
            host=args.host,
            port=args.port,
            settings=settings,
            reranker=reranker,
            access=access,
        )
        url = await stack.enter_async_context(serving)
        stats = [library.store(name).stats() for name in library.names]
        count = sum(s.passages for s in stats)
        how = ", ".join(sorted({s.method for s in stats})) or "empty"
        many = f"{count} passage{'s' if count != 1 else ''}"
        say(f"bridge: {many} ({how} search) on {url}, ctrl-c to stop")
        with responsive():
            await asyncio.Event().wait()


def _access(args: Namespace) -> Access:
    milvus: str | None = getattr(args, "milvus", None)
    data: Path | None = getattr(args, "data", None)
    if milvus is not None:
        serves = named("milvus", milvus)
    else:
        kind, folder = ("corpus", args.corpus) if data is None else ("data", data)
        serves = named(kind, Path(folder).resolve())
    return Access(
        args.host,
        getattr(args, "allowed_host", None) or (),
        getattr(args, "allowed_origin", None) or (),
        shared_token(getattr(args, "token_file", None)),
        f"bridge {serves}",
    )
