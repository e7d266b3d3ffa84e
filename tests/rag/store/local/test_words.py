"""Which words of a query are searched for."""

from __future__ import annotations

import sqlite3

import pytest

from livemind.rag.store.local.words import COMMON_LEAST, MAX_TERMS, match_expression

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
def test_match_expression_has_the_words_that_tell_passages_apart(
    reader: sqlite3.Connection, query: str, expression: str | None
) -> None:
    assert match_expression(reader, query, PASSAGES) == expression


def test_match_expression_words_that_are_nowhere_take_no_place(reader: sqlite3.Connection) -> None:
    query = " ".join([*(f"missing{place}" for place in range(MAX_TERMS)), "rare7"])
    assert match_expression(reader, query, PASSAGES) == '"rare7"'


@pytest.mark.parametrize("missing", [0, 1, 30])
def test_match_expression_many_known_words_asks_for_no_more_than_the_limit(
    reader: sqlite3.Connection, missing: int
) -> None:
    query = [f"none{place}" for place in range(missing)] + [f"rare{place}" for place in range(80)]
    expression = match_expression(reader, " ".join(query), PASSAGES)
    assert expression is not None
    assert len(expression.split(" OR ")) == MAX_TERMS
