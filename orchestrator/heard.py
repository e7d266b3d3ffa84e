"""How much of a spoken answer was heard: from a time and what is known of its words to characters.

Pure. A word counts as heard when its sound had ended; the white space behind it does not count.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

REACH = 4096
"""A word is looked for within so many characters: those passed over cost no more than that."""


class SpokenWord(Struct, frozen=True):
    """A word as a synthesiser timed it, milliseconds from the beginning of the answer's audio."""

    text: str
    start_ms: float
    end_ms: float


def heard_characters(
    text: str,
    audio_end_ms: float,
    *,
    words: Sequence[SpokenWord] = (),
    duration_ms: float | None = None,
    characters_per_s: float = 15.0,
) -> int:
    """Return how many characters of ``text`` were heard until ``audio_end_ms``.

    Args:
        text: of the answer, as far as it is known.
        audio_end_ms: where the playback stopped, >= 0.
        words: their times; the best source. A word that does not stand in the text (a
            synthesiser says "three" for "3") is passed over; where none does, their end is taken
            for the duration.
        duration_ms: of the audio of the whole text; the next best: characters pass evenly.
        characters_per_s: where neither is known.

    Returns:
        0 .. len(text); without ``words`` it is cut back to the end of a word, so that the model
        does not see a part of one.
    """
    found = 0
    known = False
    cursor = 0
    for word in words:
        wanted = word.text.strip()
        place = text.find(wanted, cursor, cursor + REACH) if wanted else -1
        if place < 0:
            continue
        known, cursor = True, place + len(wanted)
        if word.end_ms <= audio_end_ms:
            found = cursor
    if known:
        return found
    if words and duration_ms is None:
        duration_ms = max(word.end_ms for word in words)
    if duration_ms is None:
        characters = int(audio_end_ms / 1000 * characters_per_s)
    elif audio_end_ms >= duration_ms:
        return len(text)
    else:
        characters = int(len(text) * audio_end_ms / duration_ms)
    return _whole_words(text, characters)


def _whole_words(text: str, characters: int) -> int:
    """Return the largest end of a word up to ``characters``; unspaced scripts are cut anywhere."""
    if characters >= len(text):
        return len(text)
    if characters <= 0:
        return 0
    if text[characters].isspace() or not text[characters].isascii():
        return len(text[:characters].rstrip())
    cut = text[:characters]
    blank = max((n for n, letter in enumerate(cut) if letter.isspace()), default=-1)
    if blank < 0:
        return 0 if cut.isascii() else characters
    return len(cut[:blank].rstrip())
