"""What of a text the router reads, and what it says about the rest.

Whatever a user types is material to be classified, never an instruction to the router.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

HEAD = TAIL = 4096
LATIN = 0x250
"""Letters below are of the Latin script."""
EMPTY = "empty text"
NO_WORDS = "no words"
CUT = f"long text: its first and last {HEAD} characters"
CONTROLS = "control characters ignored"
MIXED = "mixed scripts"
NOT_OBEYED = "a wish for a route is not obeyed: choose a model by its name"

_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069]"
)
_ASKS = r"(?:route|re-?route|redirect|enruta|redirige)"
_SENDS = r"(?:send|forward|switch|hand|pass|use|env[ií]a(?:lo)?|manda(?:lo)?|usa|cambia)"
_WHAT = r"(?:\s+(?:this|it|me|that|everything|over|esto|todo|my question|this prompt))"
_TO = r"(?:\s+(?:to|at|al|a la|a|el|the|with))*"


@dataclass(frozen=True, slots=True)
class Reading:
    """The text to be judged and what to say about it; ``wordless``: nothing to go by."""

    text: str
    reasons: tuple[str, ...] = ()
    wordless: bool = False


class Reader:
    """Cleans texts; ``names``: of experts and domains, which a text may not choose by naming."""

    def __init__(self, names: Iterable[str]) -> None:
        known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        kind = r"(?:\s+(?:expert|model|experto|modelo))"
        target = rf"(?:{known})\b{kind}?|[\w-]+{kind}\b" if known else rf"[\w-]+{kind}\b"
        self._wish = re.compile(
            rf"\b(?:{_ASKS}{_WHAT}+\s+(?:to|al|a la|a)\s+(?:the\s+)?[\w-]+{kind}?"
            rf"|{_SENDS}{_WHAT}*{_TO}\s+(?:{target}))",
            re.IGNORECASE,
        )

    def __call__(self, text: str) -> Reading:
        """Return what is to be judged. Linear in the text, at most HEAD + TAIL characters of it."""
        reasons: list[str] = []
        if len(text) > HEAD + TAIL:
            text = f"{text[:HEAD]} {text[-TAIL:]}"
            reasons.append(CUT)
        if not text.strip():
            return Reading("", (*reasons, EMPTY), wordless=True)
        if _CONTROL.search(text):
            text = _CONTROL.sub(" ", text)
            reasons.append(CONTROLS)
        if self._wish.search(text):
            text = self._wish.sub(" ", text)
            reasons.append(NOT_OBEYED)
        text = " ".join(text.split())
        if not any(letter.isalnum() for letter in text):
            return Reading(text, (*reasons, NO_WORDS), wordless=True)
        if len(_scripts(text)) > 1:
            reasons.append(MIXED)
        return Reading(text, tuple(reasons))


def is_latin(text: str) -> bool:
    """Return whether all letters of a text are Latin."""
    if text.isascii():
        return True
    return all(ord(one) < LATIN for one in unicodedata.normalize("NFC", text) if one.isalpha())


def _scripts(text: str) -> set[str]:
    """Return the writing systems of the letters; kana and Han count as one, as in Japanese."""
    if text.isascii():
        return {"LATIN"}
    together = {
        "HIRAGANA": "CJK",
        "KATAKANA": "CJK",
        "KATAKANA-HIRAGANA": "CJK",
        "FULLWIDTH": "CJK",
    }
    found = set()
    for letter in set(text[:512]):
        if letter.isalpha():
            script = unicodedata.name(letter, "UNKNOWN").split(" ")[0]
            found.add(together.get(script, script))
    return found - {"UNKNOWN", "MODIFIER", "FEMININE", "MASCULINE"}
