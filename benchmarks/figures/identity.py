"""Whether two greedy answers are the same, and if not, whether their first difference is a tie.

Two runs of one prompt may round differently (another batch, another split of the prefill); where
the two best tokens are numerically equal that flips the choice. Such a difference is called a tie
when the logprobs of the two tokens lie within ``TIE_NATS``; everything else is a difference. The
logprobs come from asking the reference again, untimed, so that no timed arm pays for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .stats import share

TIE_NATS = 0.02
Verdict = Literal["identical", "tie", "different"]
VERDICTS: tuple[Verdict, ...] = ("identical", "tie", "different")
"""Kindest first."""
_PART_OF_A_CHARACTER = "\ufffd"


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """One generated token, its logprob, and the best tokens at its place as (token, logprob).

    ``start``: how much text had been shown before it. A token that is part of a character shows
    nothing, so the tokens of one character have the same start.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()
    start: int = 0


@dataclass(frozen=True, slots=True)
class Explanation:
    """Another run of the reference, with logprobs."""

    text: str = ""
    tokens: Sequence[TokenChoice] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdict on a pair; ``gap_nats`` at the first differing token, None when unknown."""

    verdict: Verdict
    token_index: int | None = None
    gap_nats: float | None = None


def compare(reference: str, text: str, explanation: Explanation | None = None) -> Comparison:
    """Compare a text with its reference.

    An explanation that itself differs from both texts before they part explains nothing, nor does
    one whose best tokens do not hold what the other text went on with: the verdict is "different".
    """
    if reference == text:
        return Comparison("identical")
    parted = _common(reference, text)
    told = explanation or Explanation()
    if max(_common(told.text, reference), _common(told.text, text)) < parted:
        return Comparison("different")
    starts = [choice.start for choice in told.tokens if choice.start <= parted]
    gaps = [
        (index, _gap(choice, reference[choice.start :], text[choice.start :]))
        for index, choice in enumerate(told.tokens)
        if choice.start == max(starts)
    ]
    known = [(gap, index) for index, gap in gaps if gap is not None]
    if not known:
        return Comparison("different", gaps[0][0] if gaps else None)
    gap, index = min(known)
    return Comparison("tie" if gap <= TIE_NATS else "different", index, gap)


def _common(one: str, other: str) -> int:
    """Return the length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _gap(choice: TokenChoice, reference: str, text: str) -> float | None:
    """Return how far apart the tokens are that begin the two texts, in nats; None if unknown."""
    best = {choice.token: choice.logprob, **dict(choice.top)}
    ours, theirs = _beginning(best, reference), _beginning(best, text)
    if ours is None or theirs is None or ours == theirs:
        return None
    return abs(best[ours] - best[theirs])


def _beginning(tokens: Iterable[str], text: str) -> str | None:
    """Return the longest token that the text begins with; an end token if the text is over."""
    if not text:
        return next((t for t in tokens if t.startswith("<") and t.endswith(">")), None)
    whole = max((t for t in tokens if t and text.startswith(t)), key=len, default=None)
    if whole is None and not text[0].isascii():
        return next((t for t in tokens if _PART_OF_A_CHARACTER in t), None)
    return whole


def identical_share(verdicts: Iterable[Verdict], *, strict: bool = False) -> float | None:
    """Return (identical + ties) / all, without the ties when ``strict``; None without pairs."""
    counted = list(verdicts)
    good = {"identical"} if strict else {"identical", "tie"}
    return share(sum(verdict in good for verdict in counted), len(counted))
