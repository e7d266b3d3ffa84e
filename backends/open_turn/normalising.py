"""What a normalizer makes of a text whose end is not known yet."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from .automaton import Automaton
from .pattern import UnknownPattern

Description = Mapping[str, Any]
_Open = Callable[[str], str]

# One character after the other, or at the begin alone.
_CHARACTERWISE = ("Prepend", "Lowercase", "Nmt", "StripAccents", "ByteLevel", "Strip")
# Several characters become one, or are looked at as one.
_COMPOSING = ("NFC", "NFD", "NFKC", "NFKD", "BertNormalizer", "Precompiled")
_ALONE = ("L", "N", "P", "Sm", "Sc", "So", "Zs")
# Letters that a grapheme begins with which goes on with the next character (Unicode's Prepend), and
# the leading jamo of Hangul.
_LEADS = re.compile(
    r"[\u1100-\u115f\ua960-\ua97c\u0d4e\U000111c2\U000111c3\U0001193f\U00011941\U00011a3a"
    r"\U00011a84-\U00011a89\U00011d46\U00011f02]"
)
_JAMO = re.compile(r"[\u1160-\u11ff\ud7b0-\ud7fb]")
_REGIONAL = re.compile(r"[\U0001f1e6-\U0001f1ff]")
_CONTROL = "\n\t"


class OpenNormalizer:
    """All parts of a normalizer, one after the other.

    Args:
        description: as ``tokenizer.json`` has it, None = there is none.
        make: builds a normalizer from such a description.
    """

    def __init__(self, description: Description | None, make: Callable[[Description], Any]) -> None:
        self._parts: list[_Open] = []
        self.why_not: str | None = None
        for part in _parts(description):
            opened = _opened(part, make(part))
            if opened is None:
                self.why_not = f"its normalizer {part['type']} is not understood"
                return
            self._parts.append(opened)

    def known(self, text: str) -> str:
        """Return what every normalised text begins with whose original begins like this."""
        for part in self._parts:
            text = part(text)
        return text


def _parts(description: Description | None) -> list[Description]:
    if description is None:
        return []
    if description["type"] != "Sequence":
        return [description]
    return [inner for part in description["normalizers"] for inner in _parts(part)]


def _opened(part: Description, normalizer: Any) -> _Open | None:
    normalise: _Open = normalizer.normalize_str
    if part["type"] in _CHARACTERWISE:
        return normalise
    if part["type"] in _COMPOSING:
        return lambda text: normalise(text[: _last_edge(text)])
    if part["type"] == "Replace":
        return _replacing(part["pattern"], normalise)
    return None


def _replacing(pattern: Mapping[str, str], normalise: _Open) -> _Open | None:
    try:
        automaton = Automaton(pattern.get("Regex") or re.escape(pattern["String"]))
    except UnknownPattern:
        return None
    if automaton.takes_one:
        return normalise
    if automaton.asserts:  # what stands behind the text that is normalised alone counts
        return None

    def open_replacing(text: str) -> str:
        """Normalise up to the last place across which no match can reach."""
        kinds = automaton.kind
        for place in range(len(text) - 1, 0, -1):
            if not automaton.may_hold(kinds(text[place - 1]), kinds(text[place])):
                return normalise(text[:place])
        return ""

    return open_replacing


def _last_edge(text: str) -> int:
    """Return the last place at which no normal form joins what stands around it."""
    for place in range(len(text) - 1, 0, -1):
        if _is_edge(text[place - 1], text[place]):
            return place
    return 0


def _is_edge(before: str, after: str) -> bool:
    """Whether two neighbours are apart in every normal form and as graphemes.

    Says no where a look at two characters does not tell.
    """
    if before.isascii() and after.isascii():
        return (before, after) != ("\r", "\n")
    category = unicodedata.category(before)
    if category[0] == "M" or category in ("Cf", "Cn") or _LEADS.match(before):
        return False
    if after in _CONTROL:
        return True
    if not unicodedata.category(after).startswith(_ALONE) or _REGIONAL.match(after):
        return False
    first = unicodedata.normalize("NFKD", after)[0]
    return not (unicodedata.category(first)[0] == "M" or _JAMO.match(first))
