"""When retrieved passages have settled: freeze, give up, re-freeze, append late. Pure.

Frozen when the text is long enough to say what it is about, or its typist pauses: on 300 questions
word by word (docs/retrieval.md) the length told more than the agreement of two results, of which
the earliest agree on what the first words share. Given up as soon as a newer result has become
another set; then frozen anew, at most twice and only if that is cheap to compute, what stays in its
old order. What is missing at the end stands behind the user's text. Where that would be most of a
result, the frozen ones are given up: a prompt with both would cost more than no head start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from ...rag.base import Passage, RetrievalResult
from ..events import DocumentsUsed, RetrievalUpdated, RetrievedPassage

Moment = Literal["typing", "paused", "committed"]

MIN_CHARACTERS = 40
MIN_JACCARD = 0.6
MAX_REFREEZES = 2
REFREEZE_BUDGET_MS = 1000.0
CHARACTERS_PER_TOKEN = 4


class DocumentState(Struct, frozen=True):
    """Results seen in this turn.

    Attributes:
        asked_text: the newest query sent.
        seen_text: the text of the newest result.
        seen_revision: its revision; an older one is late and says nothing new.
        last: passages of that result, best first.
        frozen: passages that stand before the user's text, None while not settled.
        freezes: how often passages were frozen.
        degraded: why the newest result is incomplete.
    """

    asked_text: str | None = None
    seen_text: str | None = None
    seen_revision: int = -1
    last: tuple[Passage, ...] = ()
    frozen: tuple[Passage, ...] | None = None
    freezes: int = 0
    degraded: str | None = None


def observe(
    state: DocumentState,
    text: str,
    result: RetrievalResult,
    ms_per_token: float | None,
    moment: Moment = "typing",
) -> DocumentState:
    """Take the result for ``text`` in.

    Args:
        state: before it.
        text: what was asked for.
        result: what came of it.
        ms_per_token: what computing a token of a document costs, None = unknown.
        moment: ``paused`` = nothing was typed after ``text`` for as long as a draft waits;
            ``committed`` = nothing will be: what stands before the text stays there, unless
            nothing at all belongs to the text.
    """
    if result.revision < state.seen_revision:
        return state
    state = replace(state, seen_text=text, seen_revision=result.revision)
    if result.degraded is not None:  # what there is may serve an answer, but is no reason to freeze
        return replace(state, last=result.passages or state.last, degraded=result.degraded)
    state = replace(state, last=result.passages, degraded=None)
    if moment == "committed":  # where nothing belongs to the text nothing stands before it
        return state if result.passages else replace(state, frozen=None)
    if state.frozen is not None and result.passages and not _alike(state.frozen, result.passages):
        return _anew(state, state.frozen, ms_per_token)
    return settle(state) if moment == "paused" or len(text) >= MIN_CHARACTERS else state


def settle(state: DocumentState) -> DocumentState:
    """Freeze the newest result, unless others are or it was done too often; nothing never is."""
    complete = state.last and state.degraded is None
    if state.frozen is not None or not complete or state.freezes > MAX_REFREEZES:
        return state
    return replace(state, frozen=state.last, freezes=state.freezes + 1)


def _anew(
    state: DocumentState, frozen: tuple[Passage, ...], ms_per_token: float | None
) -> DocumentState:
    """Replace the frozen passages by the newest ones."""
    if state.freezes > MAX_REFREEZES:
        return replace(state, frozen=None)
    found, known = {p.id for p in state.last}, {p.id for p in frozen}
    kept = [passage for passage in frozen if passage.id in found]
    fresh = [passage for passage in state.last if passage.id not in known]
    cost_ms = float("inf")
    if ms_per_token is not None:
        cost_ms = ms_per_token * _characters(fresh) / CHARACTERS_PER_TOKEN
    if cost_ms > REFREEZE_BUDGET_MS and not _mostly(fresh, state.last):
        return state
    return replace(state, frozen=(*kept, *fresh), freezes=state.freezes + 1)


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


def _alike(before: tuple[Passage, ...], after: tuple[Passage, ...]) -> bool:
    a, b = {p.id for p in before}, {p.id for p in after}
    return len(a & b) >= MIN_JACCARD * len(a | b)


def _characters(passages: Iterable[Passage]) -> int:
    return sum(len(passage.text) for passage in passages)


def _mostly(part: Iterable[Passage], whole: Iterable[Passage]) -> bool:
    """More than half of the text is in the part."""
    return 2 * _characters(part) > _characters(whole)


def _covers(frozen: tuple[Passage, ...], result: tuple[Passage, ...]) -> bool:
    """The best passage of the result is among the frozen ones."""
    return not result or any(passage.id == result[0].id for passage in frozen)
