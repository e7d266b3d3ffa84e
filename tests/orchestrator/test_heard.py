"""How much of a spoken answer was heard."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from livemind.orchestrator.heard import SpokenWord, heard_characters

TEXT = "The port, I think, is 361."


def words(*texts: str) -> list[SpokenWord]:
    return [SpokenWord(text, n * 100.0, n * 100.0 + 90) for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("audio_end_ms", "heard"),
    [(0, ""), (89, ""), (90, "The"), (195, "The port,"), (299, "The port, I"), (9000, TEXT)],
)
def test_heard_with_word_times_counts_words_that_had_ended(audio_end_ms: int, heard: str) -> None:
    timed = words("The", "port,", "I", "think,", "is", "361.")
    assert TEXT[: heard_characters(TEXT, audio_end_ms, words=timed)] == heard


def test_heard_word_that_is_said_otherwise_is_passed_over() -> None:
    timed = words("The", "port,", "I", "think,", "is", "three", "hundred")
    assert TEXT[: heard_characters(TEXT, 700, words=timed)] == "The port, I think, is"


def test_heard_where_no_word_is_known_takes_their_end_for_the_duration() -> None:
    timed = words("uno", "dos")
    assert TEXT[: heard_characters(TEXT, 95, words=timed)] == "The port, I"
    assert heard_characters(TEXT, 190, words=timed) == len(TEXT)


@pytest.mark.parametrize(
    ("audio_end_ms", "heard"), [(0, ""), (500, "The port, I"), (1000, TEXT), (1200, TEXT)]
)
def test_heard_with_a_duration_passes_evenly_and_cuts_no_word(
    audio_end_ms: int, heard: str
) -> None:
    assert TEXT[: heard_characters(TEXT, audio_end_ms, duration_ms=1000)] == heard


def test_heard_with_a_time_alone_assumes_a_rate_of_speech() -> None:
    assert TEXT[: heard_characters(TEXT, 700, characters_per_s=15.0)] == "The port,"


def test_heard_of_an_unspaced_script_is_cut_between_characters() -> None:
    text = "端口是三六一。谢谢"
    assert heard_characters(text, 500, duration_ms=1000) == 4


@given(
    text=st.text(max_size=40),
    audio_end_ms=st.floats(0, 1e6),
    duration_ms=st.none() | st.floats(0.1, 1e6),
    spoken=st.lists(st.builds(SpokenWord, st.text(max_size=5), st.just(0.0), st.floats(0, 1e6))),
)
def test_heard_anything_is_between_nothing_and_all(
    text: str, audio_end_ms: float, duration_ms: float | None, spoken: list[SpokenWord]
) -> None:
    found = heard_characters(text, audio_end_ms, words=spoken, duration_ms=duration_ms)
    assert 0 <= found <= len(text)
