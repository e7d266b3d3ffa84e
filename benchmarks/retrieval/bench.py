"""Retrieval on Python's documentation: recall, how early it is right, what it costs beside writes.

Ingests the HTML pages of Debian's python3-doc on the spot (installed, downloaded, or --docs DIR)
and asks the project's own questions, each with the pages that answer it. Ten minutes on one core,
most of it for the encoder; --data DIR keeps the collection, an interrupted run goes on from there.
--synthetic N adds a made-up collection of N passages (100000: five minutes). See docs/retrieval.md.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

from rich.console import Console

from ...rag.bridge.server import data_library
from ...rag.bridge.serving import responsive
from ...rag.encoder.embedder import EmbedderUnavailable, MiniLMEmbedder
from ...rag.encoder.worker import EmbedWorker
from ...rag.search.ingest import Folder, ingest
from ...rag.search.library import DEFAULT, Library
from ...rag.store.base import StoreError
from ..bench import (
    BenchmarkFailed,
    Display,
    UsageError,
    add_common,
    display,
    number,
    positive,
    scratch,
)
from ..figures.answer import Json, Number
from ..harness.report import Parts, Run
from .docs import AskedQuestion, answered_by, find_docs, load_questions, pages_of
from .early import prefix
from .load import beside_ingestion, slow_disk
from .quality import MODES, Searcher, early, recall
from .scale import scale

MS_PER_TOKEN = 0.5
COPIES, QUICK_COPIES = 12, 3
SEARCHES = 200
MIN_SYNTHETIC, MAX_SYNTHETIC = 1_000, 1_000_000
MEANING = {
    "retrieval.recall5.final": "an answering page is in the five passages of the whole question",
    "retrieval.recall5.frozen": "the same in what stood before the text when the input ended",
    "retrieval.recall5.shown": "the same in all that an answer gets to see",
    "retrieval.recall5.shown_early": "the same with consistency early",
    "retrieval.hideable_share_600ms": "questions whose rest hides 600 ms from the point of "
    "sufficiency on (arXiv 2606.20113), three words a second",
    "retrieval.hidden_share_600ms": "passages of a sufficient text came back before the input "
    "ended, as the orchestrator asks, if every retrieval takes 600 ms",
    "retrieval.settled_share_ownms": "documents stood when the input ended, the final best among",
    "retrieval.settled_share_600ms": "the same if every retrieval took 600 ms",
    "retrieval.wasted_queries_per_turn": "retrievals while typing that changed no document",
    "retrieval.sufficient_at_share_of_input.p50": "share of the words at the point of sufficiency",
    "retrieval.equal_at_share_of_input.p50": "share of the words from which the five are the final",
    "retrieval.build.passages_per_s": "parsed, embedded and stored",
    "retrieval.ingest.search_p95_over_quiet": "searches while documents come in, over without",
    "retrieval.ingest.loop_late_ms.max": "the same: latest tick of the event loop",
    "retrieval.ingest.loop_busy_ms.max": "the same: most that the loop computed between two ticks",
    "retrieval.ingest.documents_lost": "acknowledged and not there afterwards",
    "retrieval.overload.late_ms.max": "50 clients, 50 ms each, a disk of 200 ms: lateness",
    "retrieval.hnsw_recall10": "share of the ten nearest that the graph finds",
    "retrieval.dense_ms.p50_100k": "search of 100,000 vectors, server side",
    "retrieval.hybrid_ms.p50_100k": "vectors and words, texts, the query's encoding; server side",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_common(parser, "of the made-up collection", "tutorial, faq, howto and reference only")
    add, size = parser.add_argument, number(int, MIN_SYNTHETIC, MAX_SYNTHETIC)
    add("--docs", type=Path, metavar="DIR", help="HTML of Python's documentation")
    add("--data", type=Path, metavar="DIR", help="keep the collection here")
    add("--synthetic", type=size, metavar="N", help="also a made-up collection of N passages")
    add("--only-synthetic", action="store_true", help="nothing but that")
    told = f"what a document's token costs the expert ({MS_PER_TOKEN})"
    add("--prefill-ms-per-token", type=positive, default=MS_PER_TOKEN, metavar="MS", help=told)


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, show, write; return the exit status."""
    if options.only_synthetic and options.synthetic is None:
        raise UsageError("--only-synthetic: needs --synthetic N")
    run, found = Run("retrieval", options, console), Parts()
    errors = EmbedderUnavailable, StoreError
    run.perform(lambda: asyncio.run(_measure(options, console, found)), *errors)
    run.show(found.summary, lambda name: MEANING.get(name, ""))
    kept = ("quick", "synthetic", "prefill_ms_per_token")
    config = {name: getattr(options, name) for name in kept}
    return run.finish(run.content(config, cases=found.cases, summary=found.summary))


async def _measure(options: argparse.Namespace, console: Console, found: Parts) -> None:
    with display(console) as shown, scratch() as own:
        if not options.only_synthetic:
            docs = find_docs(options.docs, Path("var") / "python-docs", console.print)
            await _documentation(options, docs, own, shown, found)
        if options.synthetic is not None:
            shown.begin("made-up collection")
            embedder = await asyncio.to_thread(MiniLMEmbedder)
            folder, seed = own / "synthetic", options.seed
            found.keep(
                "synthetic", await scale(folder, options.synthetic, embedder, seed, shown.say)
            )


async def _documentation(
    options: argparse.Namespace, docs: Path, own: Path, shown: Display, found: Parts
) -> None:
    """Everything that is measured on the documentation."""
    pages = pages_of(docs, options.quick)
    names = frozenset(page.relative_to(docs).as_posix() for page in pages)
    questions = answered_by(load_questions(), names)
    if not questions:
        raise BenchmarkFailed(f"{docs}: none of the questions is answered there")
    shown.begin("pages", len(pages))
    embedder = await asyncio.to_thread(MiniLMEmbedder)
    worker = EmbedWorker(embedder)
    kept = options.data or own / "docs"
    try:
        async with data_library(kept, embedder, documents=MiniLMEmbedder) as library:
            found.keep("build", await _build(library, docs, pages, shown))
            searcher = Searcher(library, library.store(DEFAULT), worker)
            with responsive():
                shown.begin("whole questions", len(questions) * len(MODES))
                found.keep("recall", await recall(searcher, questions, shown.step))
                shown.begin("word by word", len(questions))
                ms_per_token = options.prefill_ms_per_token
                found.keep("early", await early(searcher, questions, ms_per_token, shown.step))
                shown.begin("searches beside ingestion")
                many = QUICK_COPIES if options.quick else COPIES
                copies = sorted(pages, key=lambda page: page.stat().st_size)[len(pages) // 2 :]
                beside = Searcher(library, searcher.store, EmbedWorker(embedder, cache_size=0))
                some = await _beside(beside, docs, copies[:many], questions)
                found.keep("beside_ingestion", some)
                shown.begin("a slow disk")
                found.keep("slow_disk", await slow_disk(searcher.store, embedder, worker))
    finally:
        await worker.aclose()


async def _beside(
    searcher: Searcher, docs: Path, copies: list[Path], questions: list[AskedQuestion]
) -> tuple[Json, dict[str, Number]]:
    """Measure searches while copies of pages come in; closes the searcher's encoder."""
    texts = [prefix(q.text, words) for q in questions for words in (4, 40)]
    texts = list(dict.fromkeys(texts))[:SEARCHES]
    try:
        return await beside_ingestion(searcher, DEFAULT, docs, copies, texts)
    finally:
        await searcher.embed.aclose()
        copied = [f"copy/{page.relative_to(docs).as_posix()}" for page in copies]
        await searcher.library.write(lambda: searcher.store.delete(copied))


async def _build(
    library: Library, docs: Path, pages: list[Path], shown: Display
) -> tuple[Json, dict[str, Number]]:
    began = time.perf_counter()
    found = Folder(docs, tuple(pages))
    done = await ingest(library, DEFAULT, found, lambda files: shown.step(count=files))
    seconds = time.perf_counter() - began
    if not done.stored and not done.unchanged:
        raise BenchmarkFailed(f"no page could be read: {'; '.join(done.refused[:3])}")
    stats = await library.read(library.store(DEFAULT).stats)
    case = {
        "pages": stats.documents,
        "passages": stats.passages,
        "method": stats.method,
        "new_passages": done.passages,
        "seconds": seconds,
        "refused": done.refused,
    }
    rate = done.passages / seconds if done.passages >= 100 else None
    return case, {"retrieval.build.passages_per_s": rate}
