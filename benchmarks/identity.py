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


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """One generated token, its logprob, and the best tokens at its place as (token, logprob)."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdict on a pair; ``gap_nats`` at the first differing token, None when unknown."""

    verdict: Verdict
    token_index: int | None = None
    gap_nats: float | None = None


def compare(reference: str, text: str, explained: Sequence[TokenChoice] = ()) -> Comparison:
    """Compare a text with its reference.

    Args:
        reference: the answer to measure against.
        text: the other answer.
        explained: tokens with logprobs of another run of the reference. A difference that they do
            not reach (that run differs earlier itself) or whose rival is not among their best
            tokens stays a difference.
    """
    if reference == text:
        return Comparison("identical")
    common, start = _common(reference, text), 0
    for index, choice in enumerate(explained):
        end = start + len(choice.token)
        if end > common:
            return _at(index, choice, reference[start:], text[start:])
        if not reference.startswith(choice.token, start):
            break
        start = end
    return Comparison("different")


def _common(one: str, other: str) -> int:
    """Return the length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _at(index: int, choice: TokenChoice, reference: str, text: str) -> Comparison:
    """Judge the place where ``reference`` and ``text`` (both from there on) part."""
    best = {choice.token: choice.logprob, **dict(choice.top)}
    ours, theirs = _longest(best, reference), _longest(best, text)
    if ours is None or theirs is None or ours == theirs:
        return Comparison("different", index)
    gap = abs(best[ours] - best[theirs])
    return Comparison("tie" if gap <= TIE_NATS else "different", index, gap)


def _longest(tokens: Iterable[str], text: str) -> str | None:
    """Return the longest token that the text begins with."""
    return max((t for t in tokens if t and text.startswith(t)), key=len, default=None)


def identical_share(verdicts: Iterable[Verdict], *, strict: bool = False) -> float | None:
    """Return (identical + ties) / all, without the ties when ``strict``; None without pairs."""
    counted = list(verdicts)
    good = {"identical"} if strict else {"identical", "tie"}
    return share(sum(verdict in good for verdict in counted), len(counted))
