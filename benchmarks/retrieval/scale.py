"""A collection of any size, made up: what search costs and what the graph misses.

Vectors are topics of a 48-dimensional subspace with noise around them, about as hard for a graph as
sentence vectors are; words are drawn by Zipf's law. Queries are made from passages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ...rag.base import Embedder, FloatArray
from ...rag.bridge.serving import responsive
from ...rag.documents.chunking import Chunk, digest
from ...rag.encoder.worker import EmbedWorker
from ...rag.search.library import Library
from ...rag.store.base import Document, PassageStore
from ...rag.store.local.store import LocalStore
from ..figures.answer import Json, Number
from ..figures.stats import p50
from .quality import Searcher, stages

DIM, SUBSPACE, PER_TOPIC, NOISE = 384, 48, 50, 0.03
PER_DOCUMENT, WORDS, VOCABULARY = 500, 60, 30_000
QUERIES, TOP = 200, 10


class GivenVectors:
    """Encodes with a real encoder, for the time it takes, and returns a vector made up before."""

    name = "made-up"
    dim = DIM

    def __init__(self, embedder: Embedder | None, vectors: dict[str, FloatArray]) -> None:
        """Keep both; without an encoder its time is not part of a search."""
        self._embedder = embedder
        self._vectors = vectors

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return float32 (len(texts), 384). Raises KeyError for a text that was not given."""
        if self._embedder is not None:
            self._embedder.embed(texts)
        return np.stack([self._vectors[text] for text in texts])


def made_vectors(count: int, seed: int) -> FloatArray:
    """Return float32 (count, 384), unit rows."""
    noise = np.random.default_rng(seed)
    basis = noise.standard_normal((SUBSPACE, DIM), dtype=np.float32) / np.sqrt(DIM)
    topics = noise.standard_normal((max(count // PER_TOPIC, 1), SUBSPACE), dtype=np.float32)
    chosen = topics[noise.integers(len(topics), size=count)]
    chosen += 0.7 * noise.standard_normal(chosen.shape, dtype=np.float32)
    return _unit(chosen @ basis + NOISE * noise.standard_normal((count, DIM), dtype=np.float32))


def made_text(noise: np.random.Generator, words: int) -> str:
    """Return words by Zipf's law."""
    ranks = np.exp(noise.random(words) * np.log(VOCABULARY)).astype(int)
    return " ".join(f"w{rank}" for rank in ranks)


async def scale(
    folder: Path, passages: int, embedder: Embedder | None, seed: int, told: Callable[[str], None]
) -> tuple[Json, dict[str, Number]]:
    """Return costs of writing and searching, and the graph's recall against exact search."""
    label = f"{passages // 1000}k" if passages % 1000 == 0 else str(passages)
    vectors = made_vectors(passages, seed)
    noise = np.random.default_rng(seed + 1)
    store = await asyncio.to_thread(LocalStore, folder, GivenVectors.name, DIM)
    try:
        told(f"{passages} passages into the store")
        began = time.perf_counter()
        texts = await asyncio.to_thread(_write, store, vectors, noise)
        written_s = time.perf_counter() - began
        told(f"graph over {passages} passages")
        began = time.perf_counter()
        await asyncio.to_thread(store.compact)
        graph_s = time.perf_counter() - began
        told("searching")
        picked = noise.choice(passages, size=min(QUERIES, passages), replace=False)
        queries = _unit(vectors[picked] + 0.5 * vectors[noise.permutation(picked)])
        asked = [" ".join(noise.choice(texts[place].split(), size=8)) for place in picked]
        asked = [f"{text} {number}" for number, text in enumerate(asked)]
        found = await asyncio.to_thread(_graph_recall, store, vectors, queries)
        given = GivenVectors(embedder, dict(zip(asked, queries, strict=True)))
        ms = await _search(store, given, asked)
        case: Json = {
            "passages": passages,
            "method": store.stats().method,
            "write_s": written_s,
            "written_passages_per_s": passages / written_s,
            "graph_s": graph_s,
            "stages": stages(ms),
            "query_embedded": embedder is not None,
        }
        return case, {
            f"retrieval.dense_ms.p50_{label}": p50(ms["dense"]),
            f"retrieval.hybrid_ms.p50_{label}": p50(ms["total"]),
            "retrieval.hnsw_recall10": found if store.stats().method == "hnsw" else None,
        }
    finally:
        await asyncio.to_thread(store.close)


def _write(store: LocalStore, vectors: FloatArray, noise: np.random.Generator) -> list[str]:
    texts: list[str] = []
    for start in range(0, len(vectors), PER_DOCUMENT):
        rows = vectors[start : start + PER_DOCUMENT]
        here = [made_text(noise, WORDS) for _ in rows]
        name = f"d{start:08d}"
        chunks = tuple(
            Chunk(f"p_{name}_{place}", text, WORDS, digest(text)) for place, text in enumerate(here)
        )
        store.upsert([Document(name, name, "1", chunks, rows)])
        texts += here
    return texts


def _graph_recall(store: LocalStore, vectors: FloatArray, queries: FloatArray) -> float:
    """Return the mean share of the ten nearest that a search finds."""
    hits = 0
    for query in queries:
        exact = np.argpartition(-(vectors @ query), TOP)[:TOP]
        near = np.sort(vectors[exact] @ query)[0]
        scores = [score for _, score in store.dense(query, TOP)]
        hits += sum(score >= near - 1e-5 for score in scores)
    return hits / (TOP * len(queries))


async def _search(
    store: PassageStore, given: GivenVectors, asked: Sequence[str]
) -> dict[str, list[float]]:
    library = Library(lambda _: store, ["default"], given)
    worker = EmbedWorker(given, cache_size=0)
    searcher = Searcher(library, store, worker)
    try:
        with responsive():
            for text in asked[:20]:
                await searcher(text, TOP)
            searcher.ms.clear()
            for text in asked:
                await searcher(text, TOP)
    finally:
        await worker.aclose()
        await library.aclose()
    return searcher.ms


def _unit(rows: FloatArray) -> FloatArray:
    found: FloatArray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found.astype(np.float32)
