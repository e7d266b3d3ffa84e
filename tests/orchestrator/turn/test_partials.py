"""What a partial text tells: how it comes, its whole words, those that may still change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from livemind.orchestrator.turn.partials import InputHabits, settled_words, whole_words

PARTIALS = Path(__file__).parent / "speech_partials.json"


def habits_of(texts: Sequence[str], interval_s: float = 0.3) -> InputHabits:
    """Return what is known after these texts, one for the other."""
    habits, before = InputHabits(), ""
    for text in texts:
        habits, before = habits.after(before, text, interval_s), text
    return habits


def keystrokes(text: str) -> list[str]:
    return [text[:n] for n in range(1, len(text) + 1)]


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        ([], None),
        (["a whole question that was pasted"], None),
        (keystrokes("what is"), "typed"),
        ([*keystrokes("what iss"), *reversed(keystrokes("what is"))], "typed"),
        (["wh", "what i", "what is th", "what is the po"], "typed"),  # a client that debounces
        (["what is", "what is the", "what is the port"], "transcript"),
        (["what is ", "what is the ", "what is the port "], "transcript"),
        (["what is that?", "What is the port on?", "What is the port on Ruby?"], "transcript"),
        (["wow", "what", "what do", "what is", "what is up"], "transcript"),
        (["cuál es", "cuál es el puerto", "cuál es el puerto de rubí"], "transcript"),
        (["路由", "路由器的", "路由器的端口", "路由器的端口是"], None),  # an input method?
        (["录音器", "路由器的", "路由器的端口是"], "transcript"),
    ],
)
def test_kind_of_input_is_found_from_its_first_changes(texts: list[str], kind: str | None) -> None:
    assert habits_of(texts).kind == kind


@pytest.mark.parametrize("recogniser", ["whisper", "pocketsphinx"])
def test_recorded_partials_are_known_for_a_transcript(recogniser: str) -> None:
    for texts in json.loads(PARTIALS.read_text())[recogniser]:
        assert habits_of(texts).kind == "transcript", texts


@pytest.mark.parametrize(
    ("text", "kind", "whole"),
    [
        ("what is the po", None, "what is the"),
        ("what is the po", "typed", "what is the"),
        ("what is the po", "transcript", "what is the po"),
        ("what is the ", None, "what is the"),
        ("what?", "typed", "what?"),
        ("wha", "typed", ""),
        ("", None, ""),
        ("端口是多少", "typed", "端口是多少"),
        ("ポートはいくつ", None, "ポートはいくつ"),
        ("the 端口 por", "typed", "the 端口"),
    ],
)
def test_last_word_of_a_keyboard_may_be_unfinished(text: str, kind: str | None, whole: str) -> None:
    assert whole_words(text, kind) == whole  # type: ignore[arg-type]


def test_words_that_usually_change_are_not_settled() -> None:
    steady = habits_of(["a b", "a b c", "a b c d", "a b c d e"])
    shaky = habits_of(["a b c", "a x y", "a x y d", "a x z e", "a x z f g", "a x z h g"])
    assert (steady.unsettled_words, shaky.unsettled_words) == (0, 2)
    assert settled_words("a b c d e", "transcript", steady) == "a b c d e"
    assert settled_words("a x z h  g ", "transcript", shaky) == "a x z"
    assert settled_words("one", "transcript", shaky) == ""


def test_characters_that_usually_change_are_not_settled_where_there_are_no_blanks() -> None:
    habits = InputHabits(rewritten=(0, 2, 2, 2, 2))
    text = "路由器的端口是"
    assert settled_words(text, "transcript", habits) == "路由器的端"
    assert settled_words("the 端口", "transcript", habits) == "the"


def test_words_that_were_only_added_are_not_rewritten_where_there_are_no_blanks() -> None:
    assert habits_of(["路由", "路由器的", "路由器的端口"]).rewritten == (0, 0)
    assert habits_of(["路由", "路器", "路器的"]).rewritten == (1, 0)


def test_usual_interval_leaves_pauses_out() -> None:
    habits = InputHabits()
    for n, interval_s in enumerate([0.3, 9.0, 0.5, 0.4, 0.3, 1.9, 0.3]):
        habits = habits.after("a" * (n + 1), "b" * (n + 1), interval_s)
    assert habits.usual_interval_s == 0.5
    assert InputHabits().usual_interval_s is None


@given(st.text(), st.text())
def test_any_change_of_text_is_taken(before: str, now: str) -> None:
    habits = InputHabits().after(before, now, 0.1)
    assert abs(habits.votes) <= 1
    for kind in ("typed", "transcript", None):
        whole = whole_words(now, kind)
        assert whole in now
        assert whole.startswith(settled_words(now, kind, habits))
