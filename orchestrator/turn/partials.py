"""What a partial text says of itself: whole words, words that may still change, how it comes. Pure.

A keyboard sends letters, whose last word is unfinished; a recogniser sends whole words, and takes
some of the last ones back. Which of the two a session has is found from its first changes unless
its client says so. Every function is linear in the text.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ...rag.words import is_unspaced, last_unspaced, units
from ..words import Tail, fold, from_first_difference, last_word

InputKind = Literal["typed", "transcript"]

WORD_END = frozenset(" \t\n.,;:?!…)]}\"'、。，！？")  # noqa: RUF001
SENTENCE_END = frozenset(".?!…。！？؟।")  # noqa: RUF001
QUESTION_END = frozenset("?？؟")  # noqa: RUF001
MOST_VOTES = 6
TELLING_CHANGES = 2
KEYSTROKE = 2
LONGEST_INTERVAL_S = 2.0
REMEMBERED = 16
SETTLED_SHARE = 0.8
LOOKED_AT = 4096
"""Characters behind the first difference; a change of more is a text replaced as a whole."""


class InputHabits(Struct, frozen=True):
    """How the input of one session comes, learned from its changes.

    Attributes:
        votes: for a recogniser, negative for a keyboard.
        intervals_s: of the last changes, seconds since the one before; pauses are left out.
        rewritten: how many words at the end of the text before each of them did not stay; a
            character is one where there are no blanks.
    """

    votes: int = 0
    intervals_s: tuple[float, ...] = ()
    rewritten: tuple[int, ...] = ()

    @property
    def kind(self) -> InputKind | None:
        """Where the text comes from, None while nothing tells."""
        if not self.votes:
            return None
        return "transcript" if self.votes > 0 else "typed"

    @property
    def only_keys(self) -> bool:
        """Whether the text comes from a keyboard beyond doubt."""
        return self.votes == -MOST_VOTES

    @property
    def usual_interval_s(self) -> float | None:
        """The time within which four of five changes follow another, None before the first."""
        known = sorted(self.intervals_s)
        return known[int(SETTLED_SHARE * (len(known) - 1))] if known else None

    @property
    def unsettled_words(self) -> int:
        """How many words at the end of a text have to be expected to change."""
        known = sorted(self.rewritten)
        return known[int(SETTLED_SHARE * (len(known) - 1))] if known else 1

    @property
    def only_grows(self) -> bool:
        """Whether words that came were never taken back, as far as is known."""
        return len(self.rewritten) >= TELLING_CHANGES and not any(self.rewritten)

    def after(self, before: str, now: str, interval_s: float) -> InputHabits:
        """Return what is known once the text has changed from ``before`` to ``now``."""
        old, new = from_first_difference(before.rstrip(), now.rstrip())
        was_said, is_said = fold(old.text[:LOOKED_AT]), fold(new.text[:LOOKED_AT])
        if not before.strip() or not now.strip() or was_said == is_said:
            return self
        votes = max(-MOST_VOTES, min(MOST_VOTES, self.votes + _vote(old, new)))
        intervals_s = self.intervals_s
        if interval_s <= LONGEST_INTERVAL_S:
            intervals_s = (*intervals_s, interval_s)[-REMEMBERED:]
        changed = units(was_said)
        kept = 0
        for was, is_ in zip(changed, units(is_said), strict=False):
            if was != is_:
                break
            kept += 1
        rewritten = (*self.rewritten, len(changed) - kept)[-REMEMBERED:]
        return InputHabits(votes, intervals_s, rewritten)


def whole_words(text: str, kind: InputKind | None) -> str:
    """Return the text without a last word that may be unfinished, and without outer white space.

    A recogniser's words are whole; without blanks between words every character ends one.
    """
    if not text or kind == "transcript" or text[-1] in WORD_END or is_unspaced(text[-1]):
        return text.strip()
    first = max(map(text.rfind, WORD_END)) + 1
    return text[: first + last_unspaced(text[first:])].strip()


def settled_words(text: str, kind: InputKind | None, habits: InputHabits) -> str:
    """Return the beginning of the text that will probably stay, without outer white space."""
    words = whole_words(text, kind)
    if kind != "transcript":
        return words
    for _ in range(habits.unsettled_words):
        words = words[: len(words) - _last_unit(words)].rstrip()
    return words


def _last_unit(words: str) -> int:
    """Return the length of the last word, of one character where there are no blanks."""
    word = last_word(words)
    return max(len(word) - last_unspaced(word), len(words[-1:]))


def ends_question(text: str) -> bool:
    """Whether the last mark asks: behind it little is typed but Enter."""
    return text.rstrip()[-1:] in QUESTION_END


def ends_sentence(text: str) -> bool:
    """Whether the last mark ends a sentence."""
    return text.rstrip()[-1:] in SENTENCE_END


def _vote(old: Tail, new: Tail) -> int:
    """Return 1 for a change that a recogniser makes, -1 for a keyboard's, 0 for neither."""
    gone, come = old.text[old.inside :], new.text[new.inside :]
    if not gone:
        if is_unspaced(come[0]):
            return 0  # an input method writes whole words too
        if len(come) <= KEYSTROKE:
            return 0 if come[0].isspace() and len(come) > 1 else -1  # " i": a word, or two keys
        return -1 if old.text[-1:].isalnum() and come[0].isalnum() else 1
    if not come:
        return -1 if len(gone) <= KEYSTROKE else 0
    return 1
