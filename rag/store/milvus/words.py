"""What the words of a query are worth, where the database tells no frequencies. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..base import Scored

QUERY_CHARS = 1_000
MOST_WORDS = 24
_WORD = re.compile(r"\w+")

Hits = Sequence[Mapping[str, Any]]


def searches(query: str) -> list[str]:
    """Return what to search for: the query's end, then each of its words; nothing without any."""
    text = query[-QUERY_CHARS:]
    words = [word for word in dict.fromkeys(_WORD.findall(text.lower())) if word.strip("_")]
    return [text, *words[:MOST_WORDS]] if words else []


def shares(found: Hits, alone: Sequence[Hits]) -> list[Scored]:
    """Return the passages of the query with their shares; see ``PassageStore.sparse``.

    A word is worth what the best passage gets for it alone, and one that no passage has as much as
    the rarest of the others.

    Args:
        found: of the query, best first.
        alone: of each of its words.
    """
    worth = [_score(hits[0]) if hits else 0.0 for hits in alone]
    rarest = max(worth, default=0.0)
    weight = sum(one or rarest for one in worth) or 1.0
    return [(hit["key"], _score(hit) / weight) for hit in found]


def _score(hit: Mapping[str, Any]) -> float:
    return abs(float(hit["distance"]))  # Milvus Lite gives the same scores with a minus sign
