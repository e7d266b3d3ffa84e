"""Words without their writing: what two transcripts that say the same have in common. Pure.

Recognisers change case, marks and blanks from one partial to the next, and once more in the final
text. Every function is linear in the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct

MARKS = ".,;:?!…\"'“”‘’«»()[]{}¿¡、。，！？"  # noqa: RUF001


@lru_cache(maxsize=16)  # one text is asked about several times in a row, and may be long
def fold(text: str) -> str:
    """Return the words alone: no case, no marks at their edges, single blanks between them."""
    return " ".join(filter(None, (word.strip(MARKS) for word in text.casefold().split())))


def same_words(a: str, b: str) -> bool:
    """Whether two texts differ in case, marks and blanks at most."""
    if a == b:
        return True
    old, new = from_first_difference(a, b)
    return fold(old.text) == fold(new.text)


class Tail(Struct, frozen=True):
    """The end of a text from the word on in which it differs from another.

    ``inside``: characters of that word that both have.
    """

    text: str
    inside: int


def from_first_difference(a: str, b: str) -> tuple[Tail, Tail]:
    """Return what is left of two texts from the word on in which they differ."""
    at = common_length(a, b)
    start = at - len(last_word(a[:at]))
    return Tail(a[start:], at - start), Tail(b[start:], at - start)


def last_word(text: str) -> str:
    """Return what stands behind the last white space; empty where that ends the text."""
    return "" if not text or text[-1].isspace() else text.rsplit(None, 1)[-1]


def common_length(a: Sequence[object], b: Sequence[object]) -> int:
    """Return the length of the common beginning of two texts, or of two tuples of tokens.

    Halved, as slices are compared far faster than one element after the other.
    """
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while low < high:  # the first ``low`` are equal, what is beyond ``high`` is not known to be
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
