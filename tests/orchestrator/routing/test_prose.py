"""Only what its writer says tells a text's language."""

# ruff: noqa: RUF001
from __future__ import annotations

import time

import pytest

from livemind.orchestrator.routing.prose import prose


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("why does this fail? `имя = 1`", "why does this fail?"),
        ("explain\n```python\nимя = 'да'\nprint(имя)\n```\nplease", "explain please"),
        ("explain\n```\nнет конца", "explain"),
        ('what does "добрый день" mean?', "what does mean?"),
        ("what does «добрый день» mean?", "what does mean?"),
        ("was heißt „good morning“ genau?", "was heißt genau?"),
        ("fix it\nдата = новая(5)\nfor x in y {\n}", "fix it"),
        ("see https://пример.рф/путь and a@b.cd now", "see and now"),
        ("call get_user_name and userName with x1y", "call and with"),
        ("ask Иван Петров about it", "ask Иван Петров about it"),
        ("we met Anna Karenina there", "we met there"),
        ("don't you think it's fine", "don't you think it's fine"),
        ("как это работает?", "как это работает?"),
        ("これは何ですか", "これは何ですか"),
        ('"цитата"', ""),
        ('print("Привет,', "print("),
        ("what does «добрый", "what does"),
        ("was heißt „good mor", "was heißt"),
        ("これは「good mor", "これは"),
        ("it's five o'clock", "it's five o'clock"),
        ('a 5" screen of mine\nбыл', 'a 5" screen of mine был'),
        ("", ""),
    ],
)
def test_prose_leaves_out_code_quotes_addresses_and_names(text: str, expected: str) -> None:
    assert prose(text) == expected


@pytest.mark.parametrize("part", ["`", '"', "«", "a_", "A b ", "{;\n", "x.", "f(", "```", "/"])
def test_prose_of_hostile_text_is_linear(part: str) -> None:
    def took(count: int) -> float:
        began = time.process_time()
        prose(part * count)
        return time.process_time() - began

    took(100)
    assert took(8_192 // len(part)) < 0.5
