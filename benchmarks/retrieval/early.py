"""How early the documents of a question are right while it is typed, word by word. Pure.

Two measures. The point of sufficiency and the share H of a retrieval's time that the rest of the
input hides follow arXiv 2606.20113: the first word from which on the results have an answering
page; where the whole question does not find one, from which on the best passage is the final one.
The second types the question into the orchestrator's own planner and queue of retrievals
(``play.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...rag.base import Passage

WORDS_PER_S = 3.0
Results = Mapping[int, tuple[Passage, ...]]
"""Number of words typed -> passages found for them; the largest is the whole question."""


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
