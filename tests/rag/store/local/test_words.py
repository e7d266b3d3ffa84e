"""Which words of a query are searched for."""

from __future__ import annotations

import math
import sqlite3

import pytest

from livemind.rag.store.local.words import COMMON_LEAST, MAX_TERMS, match_of

PASSAGES = 4 * COMMON_LEAST


@pytest.fixture
def reader() -> sqlite3.Connection:
    """Every passage has ``common``, every second ``half``, one each of the others."""
    reader = sqlite3.connect(":memory:")
    reader.execute("CREATE VIRTUAL TABLE words USING fts5(text, tokenize='porter unicode61')")
    texts = [f"common {'half' * (place % 2)} rare{place}" for place in range(PASSAGES)]
    reader.executemany("INSERT INTO words VALUES (?)", [(text,) for text in texts])
    return reader


@pytest.mark.parametrize(
    ("query", "expression"),
    [
        ("common half rare7", '"rare7"'),
        ("missing common half", '"half"'),
        ("rare7 rare8", '"rare7" OR "rare8"'),
        ("missing", None),
        ("?!", None),
    ],
    ids=["rare", "only-common", "two", "missing", "no-word"],
)
def test_match_has_the_words_that_tell_passages_apart(
    reader: sqlite3.Connection, query: str, expression: str | None
) -> None:
    match = match_of(reader, query, PASSAGES)
    assert (None if match is None else match.expression) == expression


def test_match_words_that_are_nowhere_take_no_place(reader: sqlite3.Connection) -> None:
    query = " ".join([*(f"missing{place}" for place in range(MAX_TERMS)), "rare7"])
    match = match_of(reader, query, PASSAGES)
    assert match is not None
    assert match.expression == '"rare7"'


@pytest.mark.parametrize("missing", [0, 1, 30])
def test_match_many_known_words_asks_for_no_more_than_the_limit(
    reader: sqlite3.Connection, missing: int
) -> None:
    query = [f"none{place}" for place in range(missing)] + [f"rare{place}" for place in range(80)]
    match = match_of(reader, " ".join(query), PASSAGES)
    assert match is not None
    assert len(match.expression.split(" OR ")) == MAX_TERMS


def test_match_weight_counts_missing_words_as_rare_and_common_ones_not_at_all(
    reader: sqlite3.Connection,
) -> None:
    def weight(query: str) -> float:
        match = match_of(reader, query, PASSAGES)
        assert match is not None
        return match.weight

    alone = weight("rare7")
    assert alone == pytest.approx(math.log((PASSAGES - 0.5) / 1.5))  # FTS5: of one passage
    assert weight("common half rare7") == alone
    assert weight("missing rare7") == pytest.approx(alone + math.log((PASSAGES + 0.5) / 0.5))
    assert weight("common") > 0.0
