"""Which words of a query BM25 is asked for.

Words that very many passages have tell no two of them apart and cost the most; they are left out
unless there is no other. All words are counted by one statement: each step of a statement hands the
interpreter over to another thread and back.
"""

from __future__ import annotations

import sqlite3

from ...words import is_unspaced, search_terms

MAX_TERMS = 24
QUERY_CHARS = 1_000
COMMON_SHARE = 0.1  # of the passages: words in more of them do not tell any two apart
COMMON_LEAST = 50
POSTINGS = 6_000  # rows that BM25 scores for one query, rarest words first


def match_expression(reader: sqlite3.Connection, query: str, passages: int) -> str | None:
    """Return an FTS5 expression over the table ``words``, None when no word of the query is in it.

    Args:
        reader: connection of this thread.
        query: any text; its last characters count.
        passages: how many there are.
    """
    words = list(dict.fromkeys(search_terms(query[-QUERY_CHARS:])))
    frequency: dict[str, int] = {}
    while words and len(frequency) < MAX_TERMS:
        asked, words = words[:MAX_TERMS], words[MAX_TERMS:]
        found = zip(asked, _frequencies(reader, asked), strict=True)
        frequency |= {word: count for word, count in found if count}
    by_rarity = sorted(frequency, key=lambda word: frequency[word])[:MAX_TERMS]
    chosen, scored = by_rarity[:1], frequency[by_rarity[0]] if by_rarity else 0
    for word in by_rarity[1:]:
        scored += frequency[word]
        if scored > POSTINGS or frequency[word] > max(COMMON_SHARE * passages, COMMON_LEAST):
            break
        chosen.append(word)
    return " OR ".join(map(_quoted, chosen)) or None


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
