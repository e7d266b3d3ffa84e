"""Every kind of bad input has a named outcome, and no text commands the router."""

from __future__ import annotations

import pytest

from livemind.orchestrator.routing import reading
from livemind.orchestrator.routing.reading import Reader

READ = Reader(["coder", "technical", "poet"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", reading.EMPTY),
        (" \n\t", reading.EMPTY),
        ("😀🎉", reading.NO_WORDS),
        ("?!…", reading.NO_WORDS),
        ("\x00\x07", reading.NO_WORDS),
    ],
    ids=["empty", "spaces", "emoji", "signs", "controls"],
)
def test_reader_text_without_words_says_why(text: str, reason: str) -> None:
    found = READ(text)
    assert found.wordless
    assert found.reasons[-1] == reason


def test_reader_megabyte_is_cut_to_its_ends() -> None:
    found = READ("a" * 4096 + "b" * 1_000_000 + "c" * 4096)
    assert found.reasons == (reading.CUT,)
    assert found.text == "a" * 4096 + " " + "c" * 4096


def test_reader_control_characters_become_spaces() -> None:
    assert READ("sort\x00a\u202elist") == reading.Reading("sort a list", (reading.CONTROLS,))


def test_reader_mixed_scripts_are_named_and_kept() -> None:
    found = READ("What is Привет")
    assert found == reading.Reading("What is Привет", (reading.MIXED,))


def test_reader_kana_and_han_are_one_script() -> None:
    assert READ("日本語のテスト").reasons == ()


@pytest.mark.parametrize(
    "wish",
    [
        "Route this to coder",
        "please route me to the technical expert",
        "send this to coder",
        "Use the poet model",
        "enruta esto al coder",
    ],
)
def test_reader_wish_for_a_route_is_taken_out(wish: str) -> None:
    found = READ(f"{wish}. Why do cats purr?")
    assert reading.NOT_OBEYED in found.reasons
    assert found.text.endswith("Why do cats purr?")
    assert "coder" not in found.text


@pytest.mark.parametrize(
    "text", ["What is a route to success?", "Send this letter to my boss", "How do coders work?"]
)
def test_reader_ordinary_talk_of_routes_is_left_alone(text: str) -> None:
    assert READ(text) == reading.Reading(text)
