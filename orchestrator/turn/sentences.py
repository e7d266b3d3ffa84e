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
    rf"|[.!?…]+[{re.escape(CLOSING)}]*(?=\s)"
    r"|[؟۔।॥]+(?=\s)"  # noqa: RUF001
    r"|\n(?=\s*\S)"
)
_CLAUSE = re.compile(r"[,;:—–،、，；：]\s*|\s+")  # noqa: RUF001
_LAST_WORD = re.compile(r"[^\s(\[{\"'“‘«]*$")  # noqa: RUF001
_BULLET = re.compile(r"(?:^|\n)\s*(?:\d{1,3}|[A-Za-z])$")
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
        """Take text in; return the pieces that are complete, in order."""
        self._waiting += text
        pieces = []
        while (end := self._end()) is not None:
            pieces.append(self._waiting[:end])
            self._waiting = self._waiting[end:]
        return pieces

    def flush(self) -> str:
        """Return what is left at the end of the answer; it may be empty."""
        left, self._waiting = self._waiting, ""
        return left

    def _end(self) -> int | None:
        """Return where the first piece ends, None while that cannot be known."""
        text = self._waiting
        for found in _END.finditer(text):
            if not text[: found.end()].strip():
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
        return self._cut() if len(text) > self._max else None

    def _cut(self) -> int:
        text = self._waiting
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
    word = _LAST_WORD.search(text, 0, mark.start())
    before = word[0] if word is not None else ""
    if following.islower() or before.casefold() in _ABBREVIATIONS:
        return False
    initial = len(before) == 1 and before.isalpha() and before.isupper()
    return not initial and _BULLET.search(text[: mark.start()]) is None
