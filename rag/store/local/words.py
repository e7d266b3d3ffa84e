"""Which words of a query BM25 is asked for.

Words that very many passages have tell no two of them apart and cost the most; they are left out
unless there is no other. All words are counted by one statement: each step of a statement hands the
interpreter over to another thread and back.
"""

from __future__ import annotations

import math
import sqlite3
from typing import NamedTuple

from ...words import is_unspaced, search_terms

MAX_TERMS = 24
QUERY_CHARS = 1_000
COMMON_SHARE = 0.1  # of the passages: words in more of them do not tell any two apart
COMMON_LEAST = 50
POSTINGS = 6_000  # rows that BM25 scores for one query, rarest words first


class Match(NamedTuple):
    """What BM25 is asked for.

    Attributes:
        expression: over the table ``words``.
        weight: the score of a passage of usual length that has every word of the query once; what
            no passage has counts as the rarest of all.
    """

    expression: str
    weight: float


def match_of(reader: sqlite3.Connection, query: str, passages: int) -> Match | None:
    """Return what to ask for, None when no word of the query is in any passage.

    Args:
        reader: connection of this thread.
        query: any text; its last characters count.
        passages: how many there are.
    """
    words = list(dict.fromkeys(search_terms(query[-QUERY_CHARS:])))
    frequency: dict[str, int] = {}
    found = 0
    while words and found < MAX_TERMS:
        asked, words = words[:MAX_TERMS], words[MAX_TERMS:]
        counts = _frequencies(reader, asked)
        frequency |= zip(asked, counts, strict=True)
        found += sum(map(bool, counts))
    common = max(COMMON_SHARE * passages, COMMON_LEAST)
    by_rarity = sorted(filter(frequency.get, frequency), key=lambda word: frequency[word])
    chosen, scored = by_rarity[:1], frequency[by_rarity[0]] if by_rarity else 0
    for word in by_rarity[1:MAX_TERMS]:
        scored += frequency[word]
        if scored > POSTINGS or frequency[word] > common:
            break
        chosen.append(word)
    if not chosen:
        return None
    told = [count for count in frequency.values() if count <= common] or [frequency[chosen[0]]]
    weight = sum(_inverse_frequency(count, passages) for count in told)
    return Match(" OR ".join(map(_quoted, chosen)), weight)


def _inverse_frequency(count: int, passages: int) -> float:
    """Return what a word is worth to FTS5's bm25()."""
    return max(1e-6, math.log((passages - count + 0.5) / (count + 0.5)))


def _quoted(word: str) -> str:
    """Return a word as FTS5 wants it: a character that stands alone, as the beginning of a pair."""
    return f'"{word}"*' if len(word) == 1 and is_unspaced(word) else f'"{word}"'


def _frequencies(reader: sqlite3.Connection, words: list[str]) -> tuple[int, ...]:
    """Return in how many passages each stemmed word is, up to a little above the limit."""
    one = "(SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?))"
    values = [value for word in words for value in (_quoted(word), POSTINGS + 1)]
    found: tuple[int, ...] = reader.execute(
        f"SELECT {', '.join([one] * len(words))}", values
    ).fetchone()
    return found
