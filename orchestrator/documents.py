"""When retrieved passages have settled: freeze, re-freeze, append late. Pure.

Frozen when two results in a row agree (not empty, same best passage, Jaccard of the sets >= 0.6),
kept in first-seen order; frozen anew at most twice and only if that is cheap to compute; otherwise
what is missing stands behind the user's text. Where that would be most of a result, the frozen ones
are given up instead: a prompt with both would cost more than one without any head start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..rag.base import Passage, RetrievalResult
from .events import DocumentsUsed, RetrievalUpdated, RetrievedPassage

MIN_JACCARD = 0.6
MAX_REFREEZES = 2
REFREEZE_BUDGET_MS = 1000.0
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class DocumentState:
    """Results seen in this turn.

    Attributes:
        asked_text: the newest query sent.
        seen_text: the text of the newest result.
        last: passages of that result, best first.
        frozen: passages that stand before the user's text, None until settled.
        refreezes: how often the frozen set was replaced.
        degraded: why the newest result is incomplete.
    """

    asked_text: str | None = None
    seen_text: str | None = None
    last: tuple[Passage, ...] = ()
    frozen: tuple[Passage, ...] | None = None
    refreezes: int = 0
    degraded: str | None = None


def observe(
    state: DocumentState, text: str, result: RetrievalResult, ms_per_token: float | None
) -> DocumentState:
    """Take a result in; freeze when it agrees with the one before."""
    if result.degraded is not None:
        return replace(state, seen_text=text, degraded=result.degraded)
    agrees = state.seen_text is not None and _agree(state.last, result.passages)
    state = replace(state, seen_text=text, last=result.passages, degraded=None)
    if not agrees:
        return state
    if state.frozen is None:
        return replace(state, frozen=result.passages)
    if not _covers(state.frozen, result.passages) and state.refreezes < MAX_REFREEZES:
        found = {passage.id for passage in result.passages}
        kept = [passage for passage in state.frozen if passage.id in found]
        known = {passage.id for passage in kept}
        fresh = [passage for passage in result.passages if passage.id not in known]
        cost_ms = float("inf")
        if ms_per_token is not None:
            cost_ms = ms_per_token * _characters(fresh) / CHARACTERS_PER_TOKEN
        if cost_ms <= REFREEZE_BUDGET_MS or _mostly(fresh, result.passages):
            return replace(state, frozen=(*kept, *fresh), refreezes=state.refreezes + 1)
    return state


def chosen(state: DocumentState) -> tuple[tuple[Passage, ...], tuple[Passage, ...]]:
    """Return (passages before the user's text, passages behind it) for an answer given now."""
    if state.frozen is None:
        return state.last, ()
    if _covers(state.frozen, state.last):
        return state.frozen, ()
    known = {passage.id for passage in state.frozen}
    late = tuple(passage for passage in state.last if passage.id not in known)
    return (state.last, ()) if _mostly(late, state.last) else (state.frozen, late)


def used(state: DocumentState) -> DocumentsUsed:
    """Return what ``chosen`` returns, by id."""
    before, behind = chosen(state)
    return DocumentsUsed(tuple(p.id for p in before), tuple(p.id for p in behind))


def event(state: DocumentState, result: RetrievalResult) -> RetrievalUpdated:
    """Return what the client may know of a result: references, no text."""
    passages = tuple(RetrievedPassage(p.id, p.source, p.score) for p in result.passages)
    stable = state.frozen is not None and _covers(state.frozen, state.last)
    return RetrievalUpdated(result.revision, passages, stable, result.degraded)


def _agree(before: tuple[Passage, ...], after: tuple[Passage, ...]) -> bool:
    if not before or not after:
        return False  # too early a text finds nothing twice; what comes next should stand in front
    a, b = {p.id for p in before}, {p.id for p in after}
    return before[0].id == after[0].id and len(a & b) >= MIN_JACCARD * len(a | b)


def _characters(passages: Iterable[Passage]) -> int:
    return sum(len(passage.text) for passage in passages)


def _mostly(part: Iterable[Passage], whole: Iterable[Passage]) -> bool:
    """More than half of the text is in the part."""
    return 2 * _characters(part) > _characters(whole)


def _covers(frozen: tuple[Passage, ...], result: tuple[Passage, ...]) -> bool:
    """The best passage of the result is among the frozen ones."""
    return not result or any(passage.id == result[0].id for passage in frozen)
