"""The collections of one bridge: a name for each store, the embedding and parsing of documents.

Owns which collections there are and how a document becomes passages with vectors.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..base import Embedder, FloatArray
from ..documents.chunking import Chunk, digest
from ..documents.corpus import Corpus
from ..documents.parse_process import ParseProcess
from ..encoder.kinds import EncoderKind
from ..encoder.worker import EmbedWorker
from ..store.base import Document, Metadata, PassageStore, StoreError
from ..store.local.store import LocalStore
from ..store.local.tables import recorded_encoder
from .encoders import OtherEncoders, passage_worker
from .read_pool import ReadPool

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
MAX_COLLECTIONS = 64
DEFAULT = "default"
READERS = 4
EMBEDDED_AT_ONCE = 64

T = TypeVar("T")
OpenStore = Callable[[str], PassageStore]
Encoded = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A document before it is parsed."""

    id: str
    source: str
    format: str
    content: bytes
    metadata: Metadata = field(default_factory=dict)


class UnknownCollection(StoreError):
    """There is no collection of this name."""


class Library:
    """Stores by name. Belongs to one event loop; stores run in its threads."""

    def __init__(
        self,
        open_store: OpenStore,
        names: Sequence[str],
        embedder: Embedder,
        parser: ParseProcess | None = None,
        documents: Embedder | None = None,
        others: Sequence[EncoderKind] = (),
    ) -> None:
        """Open the named collections; blocks, also to load an encoder that one of them needs.

        Args:
            open_store: opens a collection's store, or makes it.
            names: of collections that exist.
            embedder: of the passages of new collections.
            parser: reads documents; None = one with default limits.
            documents: encodes them in place of ``embedder``, in a thread of their own, so that no
                query waits behind them; not closed here.
            others: encoders of collections that are not of ``embedder``, loaded when one is opened.
        """
        self._open = open_store
        self._model = embedder.name
        self._others = OtherEncoders(others)
        self._stores: dict[str, PassageStore] = {}
        for name in names:
            self._opened(name)
        self._ingest = passage_worker(documents or embedder)
        self._parser = parser or ParseProcess()
        self._readers = ReadPool(READERS)
        self._scanners = ThreadPoolExecutor(READERS, "livemind-scan")
        self._searchers = ThreadPoolExecutor(2, "livemind-search")
        self._writer = ThreadPoolExecutor(1, "livemind-write")

    @classmethod
    def in_folder(
        cls,
        folder: Path,
        embedder: Embedder,
        parser: ParseProcess | None = None,
        documents: Embedder | None = None,
        others: Sequence[EncoderKind] = (),
    ) -> Library:
        """Open every collection of a folder, each with the encoder that it records; blocks.

        Raises:
            StoreError: the folder cannot be used, or an encoder is not among these.
            EmbedderUnavailable: one cannot be loaded.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StoreError(f"{folder}: {exc.strerror}") from exc
        found = sorted(p.parent.name for p in folder.glob("*/passages.sqlite"))

        def open_store(name: str) -> PassageStore:
            model, dim = embedder.name, embedder.dim
            recorded = recorded_encoder(folder / name / "passages.sqlite")
            if recorded is not None and recorded[0] in {other.name for other in others}:
                model, dim = recorded
            return LocalStore(folder / name, model, dim)

        return cls(open_store, found, embedder, parser, documents, others)

    @property
    def names(self) -> list[str]:
        """The collections."""
        return sorted(self._stores)

    def store(self, name: str) -> PassageStore:
        """Return a collection's store. Raises UnknownCollection."""
        if name not in self._stores:
            raise UnknownCollection(f"collection {name[:64]!r} does not exist")
        return self._stores[name]

    async def create(self, name: str) -> PassageStore:
        """Return the collection's store, made if it is new.

        Raises:
            StoreError: not a name, or too many collections.
        """
        if not NAME.fullmatch(name):
            raise StoreError(
                f"collection {name[:80]!r}: needs 1 to 64 of a-z, 0-9, - and _, "
                "the first a letter or digit"
            )
        if name not in self._stores:
            if len(self._stores) >= MAX_COLLECTIONS:
                raise StoreError(f"collections: {MAX_COLLECTIONS} exist, the limit")
            await self.write(lambda: self._opened(name))
        return self._stores[name]

    def _opened(self, name: str) -> None:
        """Open a collection unless that has been done; in the one thread that writes."""
        if name not in self._stores:
            store = self._open(name)
            if store.model != self._model:
                self._others.load(store.model)
            self._stores[name] = store

    def asks_with(self, store: PassageStore, shared: EmbedWorker) -> EmbedWorker:
        """Return what encodes questions to a collection: ``shared`` unless it is of another."""
        return shared if store.model == shared.name else self._others.questions(store.model)

    async def read(self, work: Callable[[], T]) -> T:
        """Run what reads a few rows for a retrieval; dropped if not begun when cancelled."""
        return await self._readers.run(work)

    async def scan(self, work: Callable[[], T]) -> T:
        """Run any other read, however long; apart from ``read``, and no part of its wait."""
        return await asyncio.get_running_loop().run_in_executor(self._scanners, work)

    def read_wait_s(self, expected: int) -> float:
        """Return in how many seconds a ``read`` after ``expected`` others would have ended."""
        return self._readers.wait_s(expected)

    async def search(self, work: Callable[[], T]) -> T:
        """Run what searches memory; apart from ``read``: a slow disk does not hold it up."""
        return await asyncio.get_running_loop().run_in_executor(self._searchers, work)

    async def write(self, work: Callable[[], T]) -> T:
        """Run a write, one after another; it ends even when the caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def ingest(
        self, name: str, incoming: Sequence[Incoming], encoded: Encoded = lambda done, of: None
    ) -> dict[str, int]:
        """Parse, embed and store documents; returns once they are durable: passages by id.

        A document whose content and metadata are stored already is left as it is (0 passages).

        Args:
            name: of the collection; made if it is new.
            incoming: each wins over a stored one of its id.
            encoded: called on the event loop whenever more passages of a document are embedded,
                with their number and how many it has; first with 0, when it is cut.

        Raises:
            UnreadableFile: one of them cannot be read; nothing of the call is stored.
            EmbedderError: the encoder failed; nothing is stored.
        """
        known = {}
        if name in self._stores:
            known = await self.scan(lambda: self.store(name).hashes([d.id for d in incoming]))
        hashes = await asyncio.to_thread(lambda: {d.id: _hash(d) for d in incoming})
        fresh = [d for d in incoming if known.get(d.id) != hashes[d.id]]
        parsed = [await self._parser.read(d.id, d.content, d.format) for d in fresh]
        model = self._stores[name].model if name in self._stores else self._model
        embed = self._ingest if model == self._model else self._others.passages(model)
        ready = [
            await _document(embed, _told(d, found.metadata), found.chunks, hashes[d.id], encoded)
            for d, found in zip(fresh, parsed, strict=True)
        ]
        store = await self.create(name)
        if ready:
            await self.write(lambda: store.upsert(ready))
        done = {d.id: len(d.chunks) for d in ready}
        return {d.id: done.get(d.id, 0) for d in incoming}

    async def add_corpus(self, name: str, corpus: Corpus) -> None:
        """Store a corpus that is cut into passages already, one document per source."""
        by_source: dict[str, list[Chunk]] = {}
        for p in corpus.passages:
            piece = Chunk(p.id, p.text, len(p.text.split()), digest(p.text), p.title)
            by_source.setdefault(p.source, []).append(piece)
        documents = [
            await _document(
                self._ingest, Incoming(source, source, "md", b""), tuple(chunks), corpus.version
            )
            for source, chunks in by_source.items()
        ]
        store = await self.create(name)
        await self.write(lambda: store.upsert(documents))

    async def aclose(self) -> None:
        """Finish writes, close the stores."""
        await self._parser.aclose()
        await self._ingest.aclose()
        await self._others.aclose()
        await asyncio.to_thread(self._readers.shutdown)
        for pool in (self._scanners, self._searchers, self._writer):
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)
        for store in self._stores.values():
            await asyncio.to_thread(store.close)


async def _document(
    embed: EmbedWorker,
    given: Incoming,
    chunks: tuple[Chunk, ...],
    hashed: str,
    encoded: Encoded = lambda done, of: None,
) -> Document:
    vectors: list[FloatArray] = []
    encoded(0, len(chunks))
    for i in range(0, len(chunks), EMBEDDED_AT_ONCE):
        some = chunks[i : i + EMBEDDED_AT_ONCE]
        vectors += await asyncio.gather(*(embed.embed(c.text) for c in some))
        encoded(len(vectors), len(chunks))
    rows = np.array(vectors, np.float32)
    return Document(given.id, given.source, hashed, chunks, rows, given.metadata)


def _told(given: Incoming, own: Metadata) -> Incoming:
    """Return the document with what its file says of itself, where nothing else was given."""
    return replace(given, metadata={**own, **given.metadata})


def _hash(incoming: Incoming) -> str:
    shown = f"{incoming.source}\0{incoming.format}\0{_sorted(incoming.metadata)}\0"
    return digest(shown.encode() + incoming.content)


def _sorted(metadata: Mapping[str, object]) -> list[tuple[str, object]]:
    return sorted(metadata.items())
