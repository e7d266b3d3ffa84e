"""How early the documents of a question are right while it is typed, word by word. Pure.

Two measures. The point of sufficiency and the share H of a retrieval's time that the rest of the
input hides follow arXiv 2606.20113: the first word from which on the results have an answering
page; where the whole question does not find one, from which on the best passage is the final one.
The second plays the orchestrator's own rule (``orchestrator/documents.py``) against a clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..orchestrator.documents import DocumentState, chosen, observe
from ..rag.base import Passage, RetrievalResult

WORDS_PER_S = 3.0
Results = Mapping[int, tuple[Passage, ...]]
"""Number of words typed -> passages found for them; the largest is the whole question."""

Lane = Literal["newest", "one_after_another"]
"""A newer text cancels the running retrieval, or waits until it has answered."""


@dataclass(frozen=True, slots=True)
class Played:
    """One question under the orchestrator's rule.

    Attributes:
        settled: at the end of the input documents stood before the text, and the best passage of
            the whole question was among them.
        frozen: what stood there, or the final result if nothing did.
        shown: what an answer gets once the final result is in.
        sent: retrievals while typing.
        wasted: those of them that did not change which documents stand before the text.
        tail_words: words typed after the documents came to stand as they did, None = never.
    """

    settled: bool
    frozen: tuple[Passage, ...]
    shown: tuple[Passage, ...]
    sent: int
    wasted: int
    tail_words: float | None


def prefix(text: str, words: int) -> str:
    """Return the first words of a text."""
    return " ".join(text.split()[:words])


def right(passages: Sequence[Passage], pages: Sequence[str]) -> bool:
    """Return whether one of the passages is of an answering page."""
    return any(passage.source in pages for passage in passages)


def sufficient_at(results: Results, pages: Sequence[str]) -> int:
    """Return from how many words on the results have what the whole question finds."""
    counts = sorted(results, reverse=True)
    final = results[counts[0]]
    found = right(final, pages)
    point = counts[0]
    for words in counts:
        now = results[words]
        same = right(now, pages) if found else [p.id for p in now[:1]] == [p.id for p in final[:1]]
        if not same:
            break
        point = words
    return point


def equal_at(results: Results) -> int:
    """Return from how many words on the results are the final set."""
    counts = sorted(results, reverse=True)
    final = {p.id for p in results[counts[0]]}
    point = counts[0]
    for words in counts:
        if {p.id for p in results[words]} != final:
            break
        point = words
    return point


def hidden_part(at: int, words: int, latency_s: float) -> float:
    """Return H: the part of a retrieval, sent after ``at`` words, that the rest hides (0 to 1)."""
    return min(1.0, (words - at) / WORDS_PER_S / latency_s)


def play(results: Results, latency_s: float, lane: Lane, ms_per_token: float) -> Played:
    """Type a question at three words a second against a retrieval that takes ``latency_s``."""
    counts = sorted(results)
    end_s = counts[-1] / WORDS_PER_S
    state, wasted, since = DocumentState(), 0, None  # type: DocumentState, int, float | None
    answered, sent = _answered(counts, latency_s, lane)
    for words, at_s in answered:
        if at_s > end_s + 1e-9:
            break
        before = state.frozen
        state = observe(state, str(words), RetrievalResult(words, results[words]), ms_per_token)
        if state.frozen == before:
            wasted += 1
        else:
            since = counts[-1] - at_s * WORDS_PER_S
    wasted += sent - sum(at_s <= end_s + 1e-9 for _, at_s in answered)
    final = results[counts[-1]]
    frozen = state.frozen
    best = frozen is not None and bool(final) and any(p.id == final[0].id for p in frozen)
    if state.seen_text != str(counts[-1]):
        state = observe(state, str(counts[-1]), RetrievalResult(counts[-1], final), ms_per_token)
    before_text, behind = chosen(state)
    shown = (*before_text, *behind)
    return Played(best, frozen or final, shown, sent, wasted, since if best else None)


def _answered(
    counts: Sequence[int], latency_s: float, lane: Lane
) -> tuple[list[tuple[int, float]], int]:
    """Return (words, time of the answer) of what is answered, and how many were sent.

    The last text is sent when the input ends: it is the final query, none of those counted.
    """
    answered: list[tuple[int, float]] = []
    sent, free_s = 0, 0.0
    for place, words in enumerate(counts[:-1]):
        at_s, next_s = words / WORDS_PER_S, counts[place + 1] / WORDS_PER_S
        if lane == "newest":
            sent += 1
            if at_s + latency_s <= next_s + 1e-9:
                answered.append((words, at_s + latency_s))
        elif (begin_s := max(at_s, free_s)) < next_s - 1e-9:
            sent += 1
            free_s = begin_s + latency_s
            answered.append((words, free_s))
    return answered, sent
