"""How much of what is found for a beginning the whole text will find: learned from turns. Pure.

A result is told by how long its text was and how many results in a row were the same passages. At
the end of a turn each of them is held against the result of the committed text; what is kept are
sums alone, no text. The first turns go by what two corpora showed (docs/retrieval.md).
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

LENGTHS = (40, 60)
"""Letters at which another class of texts begins; what is shorter is one too."""
LONGEST_STREAK = 3
PRIORS = ((0.06, 0.08, 0.08), (0.36, 0.42, 0.42), (0.6, 0.72, 0.8))
"""Expected shares, by class of length and streak."""
PRIOR_TURNS = 6.0
MOST_TURNS = 60.0
"""So many turns count at most: what a collection finds may change."""

Situation = tuple[int, int]


class Seen(Struct, frozen=True):
    """A result of a text that was being typed: its situation and its passages, in prompt order."""

    situation: Situation
    passages: tuple[str, ...]


class Outlook(Struct, frozen=True):
    """The shares of earlier turns: sums and weights by situation, row by row of ``PRIORS``."""

    sums: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()

    def expected(self, situation: Situation) -> float:
        """Return which share of the documents of such a result will stay in their place, 0 to 1."""
        row, column = situation
        prior = PRIORS[row][column]
        if not self.weights:
            return prior
        at = row * LONGEST_STREAK + column
        return (PRIOR_TURNS * prior + self.sums[at]) / (PRIOR_TURNS + self.weights[at])

    def after(self, seen: Iterable[Seen], final: tuple[str, ...]) -> Outlook:
        """Return what is known once the committed text has found ``final``, in prompt order."""
        cells = len(PRIORS) * LONGEST_STREAK
        sums, weights = list(self.sums or (0.0,) * cells), list(self.weights or (0.0,) * cells)
        found: dict[int, list[float]] = {}
        for one in seen:
            at = one.situation[0] * LONGEST_STREAK + one.situation[1]
            found.setdefault(at, []).append(_share(one.passages, final))
        for at, shares in found.items():  # a turn counts once, however many words it had
            kept = min(1.0, (MOST_TURNS - 1) / weights[at]) if weights[at] else 1.0
            sums[at] = kept * sums[at] + sum(shares) / len(shares)
            weights[at] = kept * weights[at] + 1.0
        return Outlook(tuple(sums), tuple(weights))


def situation(letters: int, streak: int) -> Situation:
    """Return which one a result of a text of so many letters is in."""
    row = sum(letters >= length for length in LENGTHS)
    return row, min(streak, LONGEST_STREAK) - 1


def _share(passages: tuple[str, ...], final: tuple[str, ...]) -> float:
    """Return the share of the final passages before the first difference; 1 where both are none."""
    common = 0
    for mine, its in zip(passages, final, strict=False):
        if mine != its:
            break
        common += 1
    return common / len(final) if final else float(not passages)
