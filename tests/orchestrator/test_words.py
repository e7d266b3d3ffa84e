"""Texts that say the same in another writing."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from livemind.orchestrator.words import fold, from_first_difference, same_words


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("what is the port", "What is the port?", True),
        ("well what", "Well,  what", True),
        ("¿cuál es", "cuál es", True),
        ("what is the port", "what is the sport", False),
        ("use c++", "use c", False),
        ("its", "it's", False),
        ("", "...", True),
        ("one two", "one", False),
    ],
)
def test_texts_are_the_same_words_whatever_their_writing(a: str, b: str, same: bool) -> None:
    assert same_words(a, b) is same
    assert same_words(b, a) is same
    assert (fold(a) == fold(b)) is same


@given(st.text(alphabet="ab .?A"), st.text(alphabet="ab .?A"))
def test_difference_begins_with_the_word_that_differs(a: str, b: str) -> None:
    assert same_words(a, b) == (fold(a) == fold(b))
    old, new = from_first_difference(a, b)
    start = len(a) - len(old.text)
    assert a[:start] == b[:start]
    assert a == a[:start] + old.text
    assert b == b[:start] + new.text
    assert old.text[: old.inside] == new.text[: new.inside]
