"""A text as numbers of the hash table that the classifier looks up: words, pairs, pieces of words.

Nothing here depends on a language or an encoder. Words are split into pieces as in fastText
(Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information"); in scripts that set no
blanks every character begins one to four pieces.
"""

from __future__ import annotations

import functools
import re
import unicodedata
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

BUCKETS = 1 << 15
MAX_TOKENS = 128
"""Of longer texts the first and the last half of so many count."""
MAX_LETTERS = 24
LATIN_PIECES, OTHER_PIECES = (3, 4, 5), (2, 3, 4)
UNSPACED_PIECES = (1, 2, 3, 4)

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_MARKS = "\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0dff"  # written as parts of words
_TOKEN = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])(?:[^\W_]|[{_MARKS}]))+|[^\w\s]{{1,3}}|_")
_RUN = re.compile(rf"[{_UNSPACED}]+")
_DIGITS = re.compile(r"\d+")
_ACCENTS = re.compile("[\u0300-\u036f]+")

Ids = npt.NDArray[np.int64]


def token_ids(text: str) -> tuple[Ids, Ids]:
    """Return the table's rows that a text looks up, and at which of them each token begins.

    Both are empty for a text without letters, digits and signs. Linear in the text.
    """
    tokens = tokens_of(text)
    ids: list[int] = []
    starts = []
    before = ""
    for token in tokens:
        starts.append(len(ids))
        ids += _pieces(token)
        if before:
            ids.append(_row(f"b{before[:MAX_LETTERS]} {token[:MAX_LETTERS]}"))
        before = token
    return np.array(ids, np.int64), np.array(starts, np.int64)


def tokens_of(text: str) -> list[str]:
    """Return words, groups of signs and, of scripts without blanks, up to four characters each.

    Lower case, without Latin accents, numbers as ``0``; at most MAX_TOKENS.
    """
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.lower()))
    plain = _DIGITS.sub("0", unicodedata.normalize("NFC", plain))
    found = list(_tokens(plain))
    if len(found) > MAX_TOKENS:
        return found[: MAX_TOKENS // 2] + found[-MAX_TOKENS // 2 :]
    return found


def _tokens(text: str) -> Iterator[str]:
    end = 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        if _RUN.match(token):
            if match.start() >= end:
                run = _RUN.match(text, match.start())
                end = run.end() if run is not None else match.end()
            yield text[match.start() : min(end, match.start() + max(UNSPACED_PIECES))]
        else:
            yield token


@functools.lru_cache(8192)
def _pieces(token: str) -> tuple[int, ...]:
    """Return the rows of one token alone."""
    if _RUN.match(token):
        return tuple(_row("u" + token[:size]) for size in UNSPACED_PIECES if size <= len(token))
    keys = ["w" + token[:MAX_LETTERS]]
    edged = f"<{token[:MAX_LETTERS]}>"
    for size in LATIN_PIECES if token.isascii() else OTHER_PIECES:
        if len(token) >= size:
            keys += ["c" + edged[at : at + size] for at in range(len(edged) - size + 1)]
    return tuple(map(_row, keys))


def _row(key: str) -> int:
    return zlib.crc32(key.encode("utf-8", "replace")) % BUCKETS
