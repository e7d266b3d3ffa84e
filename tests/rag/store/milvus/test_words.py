"""What the words of a query are worth to Milvus."""

from __future__ import annotations

import pytest

from livemind.rag.store.milvus.words import MOST_WORDS, QUERY_CHARS, searches, shares


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("Port of port", ["Port of port", "port", "of"]),
        ("zip_longest?", ["zip_longest?", "zip_longest"]),
        ("?!", []),
        ("___", []),
        ("", []),
    ],
)
def test_searches_are_the_query_and_each_word_once(query: str, wanted: list[str]) -> None:
    assert searches(query) == wanted


def test_searches_of_a_long_query_are_of_its_end_and_few() -> None:
    text, *words = searches(" ".join(f"word{number}" for number in range(9_000)))
    assert len(text) == QUERY_CHARS
    assert len(words) == MOST_WORDS


def hits(*scores: float) -> list[dict[str, object]]:
    return [{"key": number, "distance": -score} for number, score in enumerate(scores)]


def test_shares_count_a_word_that_no_passage_has_as_the_rarest() -> None:
    assert shares(hits(6.0, 1.5), [hits(6.0), hits(1.5)]) == [(0, 0.8), (1, 0.2)]
    assert shares(hits(6.0), [hits(6.0), []]) == [(0, 0.5)]


def test_shares_of_nothing_are_none() -> None:
    assert shares([], [[], []]) == []
