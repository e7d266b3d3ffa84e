"""Which retrieved passages a prompt is prepared with, and which the answer gets. Pure.

While the text is open the prompt is prepared with a frozen set: frozen when the text is long enough
to say what it is about, or its typist pauses (on 300 questions word by word, docs/retrieval.md, the
length told more than the agreement of two results), though not before two results agree where that
leaves time enough; and replaced when newer results are another
set: at once where much of it changed or where, by the turns before, more of the newest than not
will stay (``outlook.py``), else once two results agree or at a pause. Finding nothing is a set too,
and going back to one that was prepared before costs little: its tokens are cached. Outside pauses
no more than three sets are prepared that will probably not stay; then a frozen set that is another
one is given up. What the answer gets is a matter of ``Consistency``:

* ``final``: what the committed text finds, whatever came before; the frozen set only where that
  does not come in time, and the answer says so.
* ``early``: the frozen set as long as it holds the best passage of the final text; what it lacks
  stands behind the user's text, unless that would be most of the result.

Passages stand in the order of their ids, so that equal sets are equal prompts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from ....rag.base import Passage, RetrievalResult
from ....rag.words import count_letters
from ...events import DocumentsUsed, RetrievalUpdated, RetrievedPassage
from .outlook import Outlook, Seen, situation

Moment = Literal["typing", "paused", "committed"]
Consistency = Literal["final", "early"]

MIN_LETTERS = 40
MIN_JACCARD = 0.6
MAX_FREEZES = 3
MOST_SEEN = 64
PROBABLE = 0.5
REFREEZE_BUDGET_MS = 1000.0
SOON_MS = 1000.0
CHARACTERS_PER_TOKEN = 4


class DocumentState(Struct, frozen=True):
    """Results seen in this turn.

    Attributes:
        asked_text: the newest query sent.
        seen_text: the text of the newest result.
        seen_revision: its revision; an older one is late and says nothing new.
        provisional: a final query for the same text may find others.
        last: passages of that result, best first.
        frozen: passages that the prompt is prepared with, perhaps none; None while not settled.
        prepared: the ids of every set that was frozen, in order.
        degraded: why the newest result is incomplete.
        agreed: the newest result and the one before it are the same passages.
        streak: how many results in a row were those of the newest.
        seen: the results of texts that were being typed, oldest first.
        outlook: what earlier turns say of such results.
    """

    asked_text: str | None = None
    seen_text: str | None = None
    seen_revision: int = -1
    provisional: bool = False
    last: tuple[Passage, ...] = ()
    frozen: tuple[Passage, ...] | None = None
    prepared: tuple[frozenset[str], ...] = ()
    degraded: str | None = None
    agreed: bool = False
    streak: int = 0
    seen: tuple[Seen, ...] = ()
    outlook: Outlook = Outlook()

    @property
    def freezes(self) -> int:
        """How many sets were prepared that had to be computed."""
        return sum(map(bool, self.prepared))


def observe(
    state: DocumentState,
    text: str,
    result: RetrievalResult,
    ms_per_token: float | None,
    moment: Moment = "typing",
    consistency: Consistency = "final",
) -> DocumentState:
    """Take the result for ``text`` in.

    Args:
        state: before it.
        text: what was asked for.
        result: what came of it.
        ms_per_token: what computing a token of a document costs, None = unknown.
        moment: ``paused`` = nothing was typed after ``text`` for as long as a draft waits;
            ``committed`` = nothing will be, and nothing is prepared any more.
        consistency: with ``early`` what is prepared stays while the answer would get it.
    """
    if result.revision < state.seen_revision and moment != "committed":
        return state
    before = state
    state = replace(
        state,
        seen_text=text,
        seen_revision=max(result.revision, state.seen_revision),
        provisional=result.provisional,
    )
    if result.degraded is not None:  # what there is may serve an answer, but is no reason to freeze
        last = result.passages or state.last
        return replace(state, last=last, degraded=result.degraded, agreed=False)
    agreed = before.degraded is None and _ids(before.last) == _ids(result.passages)
    streak = before.streak + 1 if agreed else 1
    state = replace(state, last=result.passages, degraded=None, agreed=agreed, streak=streak)
    if moment == "committed":
        return state
    letters = count_letters(text)
    now = situation(letters, streak)
    seen = (*state.seen, Seen(now, _in_order_ids(result.passages)))[-MOST_SEEN:]
    state = replace(state, seen=seen)
    if consistency == "early" and _stays(state):
        return state
    if moment == "paused":
        return settle(state)
    probable = state.outlook.expected(now) >= PROBABLE
    most = None if probable else MAX_FREEZES
    if not state.frozen:
        likely = agreed or probable or consistency == "early" or _is_cheap(state)
        waits = not likely and _is_soon(result.passages, ms_per_token)
        return state if waits or letters < MIN_LETTERS else settle(state, most)
    if _ids(state.frozen) == _ids(result.passages):
        return state
    other = not _alike(state.frozen, result.passages)
    if most is not None and state.freezes >= most and not _is_cheap(state):
        return replace(state, frozen=None) if other else state
    if agreed or other or probable:
        return _anew(state, state.frozen, ms_per_token)
    return state


def settle(
    state: DocumentState,
    most_freezes: int | None = None,
    consistency: Consistency = "final",
) -> DocumentState:
    """Prepare with the newest result from here on, if it is complete.

    ``most_freezes``: unless that was done so often; None = however often. ``consistency``: with
    ``early`` what is prepared stays while the answer would get it.
    """
    if state.seen_text is None or state.degraded is not None:
        return state
    if consistency == "early" and _stays(state):
        return state
    if state.frozen is not None and _ids(state.frozen) == _ids(state.last):
        return state
    if most_freezes is not None and state.freezes >= most_freezes and not _is_cheap(state):
        return state
    return _freeze(state)


def _anew(
    state: DocumentState, frozen: tuple[Passage, ...], ms_per_token: float | None
) -> DocumentState:
    """Prepare with the newest passages from here on, if that is likely to be worth it."""
    if _is_cheap(state):
        return _freeze(state)
    known = _ids(frozen)
    fresh = [passage for passage in state.last if passage.id not in known]
    cost_ms = _prepared_in_ms(fresh, ms_per_token)
    if cost_ms > REFREEZE_BUDGET_MS and not _mostly(fresh, state.last):
        return state
    return _freeze(state)


def _is_soon(passages: Iterable[Passage], ms_per_token: float | None) -> bool:
    """Whether there will be time enough to prepare them when another result agrees."""
    return _prepared_in_ms(passages, ms_per_token) <= SOON_MS


def _prepared_in_ms(passages: Iterable[Passage], ms_per_token: float | None) -> float:
    """Return how long that takes, unbounded while the expert's speed is not known."""
    if ms_per_token is None:
        return float("inf")
    return ms_per_token * _characters(passages) / CHARACTERS_PER_TOKEN


def _is_cheap(state: DocumentState) -> bool:
    """Whether preparing with the newest passages computes none of them."""
    return not state.last or _ids(state.last) in state.prepared


def _freeze(state: DocumentState) -> DocumentState:
    before, ids = state.prepared, _ids(state.last)
    prepared = before if ids in before else (*before, ids)
    return replace(state, frozen=in_order(state.last), prepared=prepared)


def learned(state: DocumentState, outlook: Outlook) -> Outlook:
    """Return what is known after a turn whose newest result is that of the committed text."""
    if state.degraded is not None or not state.seen:
        return outlook
    return outlook.after(state.seen, _in_order_ids(state.last))


def in_order(passages: Iterable[Passage]) -> tuple[Passage, ...]:
    """Return passages in an order that the set alone decides."""
    return tuple(sorted(passages, key=lambda passage: passage.id))


def chosen(
    state: DocumentState, consistency: Consistency
) -> tuple[tuple[Passage, ...], tuple[Passage, ...]]:
    """Return (passages before the user's text, passages behind it) for an answer given now."""
    if not state.frozen:
        return in_order(state.last), ()
    if state.degraded is not None:
        return state.frozen, ()
    if consistency == "final" or not state.last:
        return in_order(state.last), ()
    if _covers(state.frozen, state.last):
        return state.frozen, ()
    known = {passage.id for passage in state.frozen}
    late = in_order(passage for passage in state.last if passage.id not in known)
    return (in_order(state.last), ()) if _mostly(late, state.last) else (state.frozen, late)


def used(state: DocumentState, consistency: Consistency) -> DocumentsUsed:
    """Return what ``chosen`` returns, by id, and whether it is what the final text finds."""
    before, behind = chosen(state, consistency)
    final = state.degraded is None and _ids((*before, *behind)) == _ids(state.last)
    return DocumentsUsed(tuple(p.id for p in before), tuple(p.id for p in behind), final)


def event(state: DocumentState, result: RetrievalResult) -> RetrievalUpdated:
    """Return what the client may know of a result: references, no text."""
    passages = tuple(RetrievedPassage(p.id, p.source, p.score, p.title) for p in result.passages)
    stable = state.frozen is not None and _covers(state.frozen, state.last)
    return RetrievalUpdated(result.revision, passages, stable, result.degraded, result.ms)


def is_prepared(state: DocumentState) -> bool:
    """Whether the prompt is prepared with the newest passages, and a text before had the same.

    That two texts find nothing does not tell that they ask the same.
    """
    return bool(state.frozen) and state.agreed and _ids(state.frozen or ()) == _ids(state.last)


def _alike(before: tuple[Passage, ...], after: tuple[Passage, ...]) -> bool:
    a, b = _ids(before), _ids(after)
    return len(a & b) >= MIN_JACCARD * len(a | b)


def _ids(passages: Iterable[Passage]) -> frozenset[str]:
    return frozenset(passage.id for passage in passages)


def _in_order_ids(passages: Iterable[Passage]) -> tuple[str, ...]:
    return tuple(passage.id for passage in in_order(passages))


def _characters(passages: Iterable[Passage]) -> int:
    return sum(len(passage.text) for passage in passages)


def _stays(state: DocumentState) -> bool:
    """Whether an answer with early documents would stand on the frozen ones."""
    return bool(state.frozen and state.last) and chosen(state, "early")[0] == state.frozen


def _mostly(part: Iterable[Passage], whole: Iterable[Passage]) -> bool:
    """More than half of the text is in the part."""
    return 2 * _characters(part) > _characters(whole)


def _covers(frozen: tuple[Passage, ...], result: tuple[Passage, ...]) -> bool:
    """The best passage of the result is among the frozen ones."""
    return not result or any(passage.id == result[0].id for passage in frozen)
