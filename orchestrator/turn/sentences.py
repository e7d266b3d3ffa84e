"""Cuts an answer into pieces that a synthesiser can start on: sentences, none of them too long.

Owns the text that has not left yet. Decides nothing about when an answer begins or ends.
"""

from __future__ import annotations

import re

MAX_CHARACTERS = 240
WIDE_ENDS = "。！？｡"  # noqa: RUF001
CLOSING = "\"'”’»)]}」』）】》"  # noqa: RUF001
# White space has to follow a sentence's end, and shows whether it is one; in scripts without blanks
# the mark alone does.
_END = re.compile(
    rf"[{WIDE_ENDS}]+[{re.escape(CLOSING)}]*"
    rf"|(?<![.!?…])[.!?…]++[{re.escape(CLOSING)}]*+(?=\s)"
    r"|(?<![؟۔।॥])[؟۔।॥]++(?=\s)"  # noqa: RUF001
    r"|\n"
)
_CLAUSE = re.compile(r"[,;:—–،、，；：]\s*|\s+")  # noqa: RUF001
_OPENING = "([{\"'“‘«"  # noqa: RUF001
_BULLET = re.compile(r"\d{1,3}|[A-Za-z]")
ABBREVIATIONS = """
    mr mrs ms dr prof sr sra st jr vs etc e.g i.e cf approx inc ltd co corp dept est fig al gen
    sen rep gov capt lt col sgt rev hon no nos vol pp p.m a.m u.s u.k ph.d
    z.b d.h u.a bzw usw ca evtl ggf inkl hr fr str
    p.ej ej ud uds pág núm art
    jan feb mar apr jun jul aug sep sept oct nov dec
"""

_ABBREVIATIONS = frozenset(ABBREVIATIONS.split())


class Sentences:
    """The text of one answer on its way out; the pieces joined are the text.

    A piece ends behind the white space that follows its sentence. ``max_characters``: a longer
    sentence is cut behind a comma, else between words, else anywhere.
    """

    def __init__(self, max_characters: int = MAX_CHARACTERS) -> None:
        self._max = max_characters
        self._waiting = ""

    def feed(self, text: str) -> list[str]:
        """Take text in; return the pieces that are complete, in order. Linear in the text."""
        waiting, begin = self._waiting + text, 0
        pieces = []
        while (size := self._end(waiting[begin : begin + self._max + 2])) is not None:
            pieces.append(waiting[begin : begin + size])
            begin += size
        self._waiting = waiting[begin:]
        return pieces

    def flush(self) -> str:
        """Return what is left at the end of the answer; it may be empty."""
        left, self._waiting = self._waiting, ""
        return left

    def _end(self, text: str) -> int | None:
        """Return where the first piece ends, None while that cannot be known.

        ``text``: what waits; of more than ``max_characters`` two characters beyond them are enough.
        """
        first, last = len(text) - len(text.lstrip()), len(text.rstrip())
        for found in _END.finditer(text):
            if found.end() <= first or (found[0] == "\n" and found.end() > last):
                continue
            behind = text[found.end() :]
            blanks = len(behind) - len(behind.lstrip())
            following = behind[blanks : blanks + 1]
            wide = found[0][0] in WIDE_ENDS
            if not following and not wide:
                break  # the next letter will tell
            if wide and not behind:
                break  # a closing quote may follow
            end = found.end() + blanks
            if end > self._max:
                break
            if found[0] == "\n" or wide or _ends_sentence(text, found, following):
                return end
        return self._cut(text) if len(text) > self._max else None

    def _cut(self, text: str) -> int:
        marks = [found for found in _CLAUSE.finditer(text, 1, self._max) if found.end() < len(text)]
        clauses = [found.end() for found in marks if not found[0].isspace()]
        if clauses and clauses[-1] >= self._max // 3:
            return clauses[-1]
        return marks[-1].end() if marks else self._max


def _ends_sentence(text: str, mark: re.Match[str], following: str) -> bool:
    """Return whether the mark ends a sentence rather than an abbreviation or a number."""
    if mark[0][0] != ".":
        return True
    if mark[0].startswith(".."):
        return not following.islower()
    before = text[: mark.start()]
    word = before[_word_start(before) :]
    if following.islower() or word.casefold() in _ABBREVIATIONS:
        return False
    initial = len(word) == 1 and word.isalpha() and word.isupper()
    return not initial and not _is_bullet(before)


def _word_start(text: str) -> int:
    start = len(text)
    while start and not text[start - 1].isspace() and text[start - 1] not in _OPENING:
        start -= 1
    return start


def _is_bullet(text: str) -> bool:
    """Return whether the text ends with a number or a letter that begins its line."""
    if not text or text[-1].isspace():
        return False
    *head, word = text.rsplit(None, 1)
    gap = text[len(head[0]) : -len(word)] if head else "\n"
    return "\n" in gap and _BULLET.fullmatch(word) is not None
