"""Answers in pieces that a synthesiser can start on."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from livemind.orchestrator.turn.sentences import Sentences


def pieces(text: str, step: int = 1, **given_: int) -> list[str]:
    """Feed a text in steps; return the pieces without the white space behind them."""
    cutter = Sentences(**given_)
    found: list[str] = []
    for begin in range(0, len(text), step):
        found += cutter.feed(text[begin : begin + step])
    found.append(cutter.flush())
    assert "".join(found) == text
    return [piece.strip() for piece in found if piece.strip()]


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is open. Come in!", ["It is open.", "Come in!"]),
        ("Is it? Yes.", ["Is it?", "Yes."]),
        ('He said "Go." Then he went.', ['He said "Go."', "Then he went."]),
        ("It costs 3.50 euros. Fine.", ["It costs 3.50 euros.", "Fine."]),
        ("Version 1.2.3 is out. Get it.", ["Version 1.2.3 is out.", "Get it."]),
        ("Ask Dr. Smith or Mr. J. Miller. Now.", ["Ask Dr. Smith or Mr. J. Miller.", "Now."]),
        ("Use e.g. Python. It is easy.", ["Use e.g. Python.", "It is easy."]),
        ("Use it i.e. now. Go.", ["Use it i.e. now.", "Go."]),
        ("Das gilt z.B. Montags. Gut.", ["Das gilt z.B. Montags.", "Gut."]),
        ("Do this:\n1. Open it.\n2. Close it.", ["Do this:", "1. Open it.", "2. Close it."]),
        ("Well... maybe. Or not.", ["Well... maybe.", "Or not."]),
        ("¿Cómo está? Bien. Ya.", ["¿Cómo está?", "Bien.", "Ya."]),
        ("端口是三。谢谢!好的？", ["端口是三。", "谢谢!好的？"]),  # noqa: RUF001
        ("彼は「はい。」と言った。次。", ["彼は「はい。」", "と言った。", "次。"]),
        ("See example.com for more. Bye.", ["See example.com for more.", "Bye."]),
        ("A title\n\nThen text.", ["A title", "Then text."]),
        ("no end at all", ["no end at all"]),
        ("", []),
    ],
)
def test_answer_is_cut_behind_its_sentences_alone(
    text: str, expected: list[str], step: int
) -> None:
    assert pieces(text, step) == expected


def test_sentence_leaves_with_the_first_letter_behind_it() -> None:
    cutter = Sentences()
    assert cutter.feed("It is open.") == []
    assert cutter.feed(" C") == ["It is open. "]


def test_sentence_of_a_script_without_blanks_leaves_with_the_next_letter() -> None:
    cutter = Sentences()
    assert cutter.feed("端口是三。") == []
    assert cutter.feed("谢") == ["端口是三。"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two three, four five six seven", ["one two three,", "four five six", "seven"]),
        ("one two three four five six seven", ["one two three", "four five six", "seven"]),
        ("x" * 35, ["x" * 16, "x" * 16, "xxx"]),
    ],
)
def test_sentence_that_is_too_long_is_cut_at_a_comma_a_blank_or_anywhere(
    text: str, expected: list[str]
) -> None:
    assert pieces(text, max_characters=16) == expected


@given(
    text=st.text(st.sampled_from(list('aB1 .,!?\n。」"…')), max_size=200),
    step=st.integers(1, 50),
    longest=st.integers(1, 40),
)
def test_pieces_of_anything_join_to_the_text_and_none_is_too_long(
    text: str, step: int, longest: int
) -> None:
    assert all(len(piece) <= longest for piece in pieces(text, step, max_characters=longest)[:-1])
