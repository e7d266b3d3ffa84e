"""Questions against a collection: recall by mode, and early retrieval word by word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ...orchestrator.turn.lookahead import MIN_QUERY_WORDS, query
from ...rag.base import Passage
from ...rag.encoder.worker import EmbedWorker
from ...rag.search.fusion import Mode
from ...rag.search.library import Library
from ...rag.search.search import Progress, Question, search
from ...rag.store.base import PassageStore
from ..figures.answer import Json, Number
from ..figures.measure import distribution
from ..figures.stats import p50, share
from .docs import AskedQuestion
from .early import Results, equal_at, hidden_part, prefix, right, sufficient_at
from .play import Played, in_time, play

TOP = 5
LATENCIES_MS = (150, 300, 600)
SUBSTANTIAL = 0.8  # the paper's theta
HALVES = ("chosen_on", "held_out")
"""The rule's one number was chosen on the first, third, fifth … question."""
MODES: tuple[Mode, ...] = ("dense", "sparse", "hybrid")


@dataclass(slots=True)
class Searcher:
    """Searches one collection as the bridge does, and keeps the milliseconds of every stage."""

    library: Library
    store: PassageStore
    embed: EmbedWorker
    ms: dict[str, list[float]] = field(default_factory=dict)

    async def __call__(self, text: str, top_k: int, mode: Mode = "hybrid") -> tuple[Passage, ...]:
        """Return the best passages."""
        progress = Progress()
        began_s = asyncio.get_running_loop().time()
        asked = Question(text, top_k, mode, 0.0)
        await search(self.library, self.store, self.embed, asked, progress)
        progress.ms["total"] = (asyncio.get_running_loop().time() - began_s) * 1000.0
        for stage, value in progress.ms.items():
            self.ms.setdefault(stage, []).append(value)
        found = (f.passage for f in progress.found)
        return tuple(Passage(p.id, p.source, p.text, 0.0) for p in found)


async def recall(
    searcher: Searcher, questions: Sequence[AskedQuestion], done: Callable[[], None]
) -> tuple[Json, dict[str, Number]]:
    """Return recall@5 and @10 of each mode on whole questions: an answering page is among them."""
    case: Json = {"questions": len(questions), "missed": [], "stages": {}}
    summary: dict[str, Number] = {}
    for mode in MODES:
        searcher.ms.clear()
        ranked = []
        for question in questions:
            found = await searcher(query(question.text), 2 * TOP, mode)
            ranked.append(found)
            if mode == "hybrid" and not right(found, question.pages):
                case["missed"].append(question.text)
            done()
        case["stages"][mode] = stages(searcher.ms)
        for top in (TOP, 2 * TOP):
            hits = sum(right(f[:top], q.pages) for f, q in zip(ranked, questions, strict=True))
            summary[f"retrieval.recall{top}.{mode}"] = share(hits, len(questions))
    return case, summary


async def early(
    searcher: Searcher,
    questions: Sequence[AskedQuestion],
    ms_per_token: float,
    done: Callable[[], None],
) -> tuple[Json, dict[str, Number]]:
    """Return how early the documents of each question stand, by both measures."""
    results: list[Results] = []
    searcher.ms.clear()
    for question in questions:
        words = len(question.text.split())
        found = {}
        for count in range(min(MIN_QUERY_WORDS, words), words + 1):
            found[count] = await searcher(query(prefix(question.text, count)), TOP)
        results.append(found)
        done()
    own_s = (p50(searcher.ms["total"]) or 0.0) / 1000.0
    case, summary = summarise(questions, results, ms_per_token, own_s)
    case["stages"], case["own_ms"] = stages(searcher.ms), own_s * 1000.0
    return case, summary


def summarise(
    questions: Sequence[AskedQuestion],
    results: Sequence[Results],
    ms_per_token: float,
    own_s: float,
) -> tuple[Json, dict[str, Number]]:
    """Return case and summary of word-by-word results.

    Args:
        questions: as asked.
        results: of each, by number of words.
        ms_per_token: what computing a document's token costs an expert.
        own_s: how long this machine's retrieval takes.
    """
    pairs = list(zip(questions, results, strict=True))
    last = [max(found) for found in results]
    enough = [sufficient_at(found, question.pages) for question, found in pairs]
    equal = [equal_at(found) for found in results]
    finals = [right(found[max(found)], question.pages) for question, found in pairs]
    case: Json = {"words": last, "sufficient_at": enough, "equal_at": equal, "played": {}}
    summary: dict[str, Number] = {"retrieval.recall5.final": _share(finals)}
    for name, at in (("sufficient", enough), ("equal", equal)):
        parts = [a / b for a, b in zip(at, last, strict=True)]
        summary[f"retrieval.{name}_at_share_of_input.p50"] = p50(parts)
    for latency in LATENCIES_MS:
        hidden = [
            hidden_part(at, words, latency / 1000.0) for at, words in zip(enough, last, strict=True)
        ]
        summary[f"retrieval.hideable_share_{latency}ms"] = _share([h >= 1.0 for h in hidden])
        case[f"substantial_{latency}ms"] = _share([h >= SUBSTANTIAL for h in hidden])
    for name, latency_s in (
        ("own", own_s),
        *((str(latency), latency / 1000.0) for latency in LATENCIES_MS),
    ):
        played = [play(q.text, found, latency_s, ms_per_token) for q, found in pairs]
        early = [in_time(p, at) for p, at in zip(played, enough, strict=True)]
        told = _told(questions, played, early)
        case["played"][f"{name}ms"] = told | {
            half: _told(questions[place::2], played[place::2], early[place::2])
            | {"final_recall5": _share(finals[place::2])}
            for place, half in enumerate(HALVES)
        }
        summary[f"retrieval.hidden_share_{name}ms"] = told["hidden_share"]
        summary[f"retrieval.settled_share_{name}ms"] = told["settled_share"]
        if name == "own":
            summary["retrieval.recall5.frozen"] = told["frozen_recall5"]
            summary["retrieval.recall5.shown"] = told["shown_recall5"]
            summary["retrieval.recall5.shown_early"] = _share(
                [
                    right(play(q.text, found, latency_s, ms_per_token, "early").shown, q.pages)
                    for q, found in pairs
                ]
            )
            summary["retrieval.wasted_queries_per_turn"] = told["wasted_per_turn"]
    return case, summary


def _told(
    questions: Sequence[AskedQuestion], played: Sequence[Played], early: Sequence[bool]
) -> Json:
    """Return what became of questions at one latency."""
    pairs = list(zip(played, questions, strict=True))
    return {
        "hidden_share": _share(early),
        "settled_share": _share([p.settled for p in played]),
        "frozen_recall5": _share([right(p.frozen, q.pages) for p, q in pairs]),
        "shown_recall5": _share([right(p.shown, q.pages) for p, q in pairs]),
        "sent_per_turn": share(sum(p.sent for p in played), len(played)),
        "wasted_per_turn": share(sum(p.wasted for p in played), len(played)),
        "head_start_words.p50": p50([p.tail_words or 0.0 for p in played]),
    }


def _share(flags: Sequence[bool]) -> float | None:
    return share(sum(flags), len(flags))


def stages(ms: dict[str, list[float]]) -> dict[str, Json]:
    """Return how each stage's milliseconds are distributed."""
    return {stage: distribution(values) for stage, values in ms.items()}
