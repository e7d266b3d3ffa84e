"""Words of every script: how many a text has, and what of it full text search looks for. Pure.

Chinese, Japanese, Thai, Lao, Khmer and Burmese are written without blanks: their characters stand
for words here, which needs no dictionary and never cuts the same text in two ways. Full text search
takes pairs of neighbouring characters of them and of Korean, whose particles join the stem, as
Lucene's CJK analyzer does; three characters of the scripts whose letters are less than a syllable.
Other words are reduced to stems by the Snowball stemmer of their script. Every function is linear
in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache

_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = "\u3040-\u30ff\u31f0-\u31ff"
_HAN_AND_KANA = _HAN + _KANA
_SYLLABIC = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\uaa60-\uaa7f"
_HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
_UNSPACED = re.compile(f"[{_HAN_AND_KANA}{_SYLLABIC}]")
_UNITS = re.compile(f"[{_HAN_AND_KANA}{_SYLLABIC}]|[^\\s{_HAN_AND_KANA}{_SYLLABIC}]+")
# How many letters of English, blanks included, say as much as one of these.
_LETTERS = tuple(
    (re.compile(f"[{script}]"), letters)
    for script, letters in ((_HAN, 3.5), (_KANA, 2.4), (_SYLLABIC, 1.4))
)
_LETTERS_OF_A_WORD = 6.0
# A run of one kind: (pairs), (threes), (letters, digits and the marks that belong to them).
_RUNS = re.compile(
    f"([{_HAN_AND_KANA}]+|[{_HANGUL}]+)|([{_SYLLABIC}]+)"
    f"|((?:(?![{_HAN_AND_KANA}{_HANGUL}{_SYLLABIC}])\\w|[\u0300-\u036f\u0483-\u0487\u0591-\u05c7"
    "\u0610-\u061a\u064b-\u065f\u0900-\u0903\u093a-\u094f\u0980-\u0d7f])+)"
)
_STEMMERS = (
    (re.compile(r"[\u0370-\u03ff]"), "greek"),
    (re.compile(r"[\u0400-\u04ff]"), "russian"),
    (re.compile(r"[\u0530-\u058f]"), "armenian"),
    (re.compile(r"[\u0600-\u06ff]"), "arabic"),
    (re.compile(r"[\u0900-\u097f]"), "hindi"),
    (re.compile(r"[\u0b80-\u0bff]"), "tamil"),
)


def is_unspaced(letter: str) -> bool:
    """Whether a letter is of a script that is written without blanks."""
    return _UNSPACED.match(letter) is not None


def last_unspaced(text: str) -> int:
    """Return where the last letter of such a script ends; 0 where there is none."""
    found = None if text.isascii() else _UNSPACED.search(text[::-1])
    return 0 if found is None else len(text) - found.start()


def count_unspaced(text: str) -> int:
    """Return how many letters of a text are of such scripts."""
    return len(_UNSPACED.findall(text))


def units(text: str) -> list[str]:
    """Return the words of a text; where there are no blanks each character is one."""
    return _UNITS.findall(text)


def count_letters(text: str) -> int:
    """Return about how many letters the text would have in English, where one may say more."""
    if text.isascii():
        return len(text)
    more = [(letters - 1) * len(script.findall(text)) for script, letters in _LETTERS]
    return len(text) + int(sum(more))


def count_words(text: str) -> int:
    """Return about how many words a text has."""
    if text.isascii():
        return len(text.split())
    unspaced = "".join(_UNSPACED.findall(text))
    spaced = len(_UNSPACED.sub(" ", text).split()) if len(unspaced) < len(text) else 0
    return spaced + round(count_letters(unspaced) / _LETTERS_OF_A_WORD)


def search_terms(text: str) -> Iterator[str]:
    """Yield what full text search knows a text by, in its order: folded, without marks."""
    for pairs, threes, word in _RUNS.findall(unicodedata.normalize("NFKC", text).lower()):
        if pairs:
            yield from _grams(pairs, 2)
        elif threes:
            yield from _grams(threes, 3)
        else:
            yield word if word.isascii() else _stem(word)


def _grams(run: str, size: int) -> Iterator[str]:
    for start in range(max(1, len(run) - size + 1)):
        yield run[start : start + size]


def _stem(word: str) -> str:
    """Return a word without its endings; Latin letters are left to the index."""
    for script, language in _STEMMERS:
        if script.search(word):
            return _stemmer(language)(word) or word  # of a vowel mark alone nothing would be left
    return word


@cache
def _stemmer(language: str) -> Callable[[str], str]:
    import snowballstemmer

    stem: Callable[[str], str] = snowballstemmer.stemmer(language).stemWord
    return stem
