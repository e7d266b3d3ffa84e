"""Words of scripts with and without blanks."""

from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from livemind.rag.words import count_letters, count_words, last_unspaced, search_terms, units

QUESTIONS = {
    "en": ("Which port does the router have?", 6),
    "es": ("¿Qué puerto tiene el rúter?", 5),
    "zh": ("路由器的端口是哪一个", 5),
    "ja": ("ルーターのポートはどれですか", 7),
    "th": ("เราเตอร์ใช้พอร์ตอะไร", 5),
    "ko": ("라우터의 포트는 무엇입니까", 3),
    "mixed": ("Kestrel的端口是 361", 5),
}


@pytest.mark.parametrize("language", QUESTIONS)
def test_count_words_is_about_what_a_reader_would_count(language: str) -> None:
    text, words = QUESTIONS[language]
    assert abs(count_words(text) - words) <= 1


def test_count_letters_of_a_chinese_question_is_that_of_an_english_one() -> None:
    assert 25 <= count_letters("路由器的端口是哪一个") <= 40


def test_units_are_words_and_characters_of_scripts_without_blanks() -> None:
    assert units("Kestrel的 端口") == ["Kestrel", "的", "端", "口"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("今天的价格是一百元", "价格"),
        ("価格は百円です", "百円"),
        ("วันนี้อากาศดีมาก", "อากาศ"),
        ("서울에서 만나요", "서울"),
        ("الكتاب على الطاولة", "كتاب"),
        ("किताबें मेज पर हैं", "किताब"),
        ("книги лежат на столе", "книга"),
        ("Der Ärger", "ärger"),
        ("全角ＡＢＣ", "abc"),
    ],
)
def test_search_terms_of_a_word_are_among_those_of_its_text(text: str, word: str) -> None:
    terms = list(search_terms(word))
    assert terms
    assert set(terms) <= set(search_terms(text))


@example("\u064b")  # an Arabic vowel mark, of which the stemmer leaves nothing
@given(st.text())
def test_search_terms_hold_no_blank_and_no_mark_alone(text: str) -> None:
    for term in search_terms(text):
        assert term == "".join(term.split())
        assert any(letter.isalnum() or not letter.isascii() for letter in term) or "_" in term


@given(st.text(), st.text())
def test_counts_grow_with_the_text(one: str, other: str) -> None:
    assert count_letters(one + other) >= max(count_letters(one), count_letters(other))
    assert count_words(f"{one} {other}") >= max(count_words(one), count_words(other))


@pytest.mark.parametrize(
    ("text", "end"), [("", 0), ("abc", 0), ("é", 0), ("漢字", 2), ("a漢b", 2), ("漢" + "é" * 9, 1)]
)
def test_last_unspaced_letter_is_found_by_its_end(text: str, end: int) -> None:
    assert last_unspaced(text) == end
