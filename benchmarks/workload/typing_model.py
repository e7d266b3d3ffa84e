"""How text comes into being: typed, pasted or spoken. Pure; the caller owns clock and seed.

A cadence turns a text into keys with times; played in order they always end in exactly that text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Key:
    """One change of the input, ``at_s`` seconds after it began.

    ``text`` is appended, or with ``replaces`` it is the whole text so far (an edit, a correction).
    """

    at_s: float
    text: str
    replaces: bool = False


class Cadence(Protocol):
    """A way to enter text."""

    def keys(self, text: str, rng: random.Random) -> tuple[Key, ...]:
        """Return the changes in the order of time; empty = the text appears with the commit."""
        ...

    def think_s(self, rng: random.Random) -> float:
        """Return the seconds between the last change and the commit."""
        ...


@dataclass(frozen=True, slots=True)
class TypingModel:
    """Log-normal times between keys with an exact mean, and the wait before Enter.

    Attributes:
        chars_per_minute: mean speed; a text of n characters takes exactly n * 60 / this seconds.
        jitter: sigma of the logarithm of a key's time; 0 = a metronome.
        word_pause: factor on the time of the first key of a word.
        think_ms: median time between the last key and Enter, log-normal with ``think_jitter``.
    """

    chars_per_minute: float = 400.0
    jitter: float = 0.45
    word_pause: float = 1.5
    think_ms: float = 200.0
    think_jitter: float = 0.3

    def __post_init__(self) -> None:
        if self.chars_per_minute <= 0:
            raise ValueError(f"chars_per_minute: got {self.chars_per_minute}, need > 0")

    def keys(self, text: str, rng: random.Random) -> tuple[Key, ...]:
        """Return one key per character, in order; the last falls exactly on the mean speed."""
        times = self._times(f" {text}"[: len(text)], rng)
        return tuple(Key(at_s, character) for at_s, character in zip(times, text, strict=True))

    def think_s(self, rng: random.Random) -> float:
        """Return the seconds between the last key and Enter."""
        return self.think_ms / 1000.0 * rng.lognormvariate(0.0, self.think_jitter)

    def _times(self, before: Sequence[str], rng: random.Random) -> list[float]:
        """Return the time of each key, given the character that stands before it."""
        weights = [
            rng.lognormvariate(0.0, self.jitter) * (self.word_pause if last == " " else 1.0)
            for last in before
        ]
        scale = len(weights) * 60.0 / self.chars_per_minute / sum(weights) if weights else 0.0
        times, at_s = [], 0.0
        for weight in weights:
            at_s += weight * scale
            times.append(at_s)
        return times


@dataclass(frozen=True, slots=True)
class PausingModel(TypingModel):
    """Typing with one to three pauses for thought of 0.6 to 2.5 seconds between words."""

    def keys(self, text: str, rng: random.Random) -> tuple[Key, ...]:
        """Return one key per character; the pauses come on top of the mean speed."""
        # Spelled out: dataclass(slots=True) makes a new class, on which super() would not work.
        keys = list(TypingModel.keys(self, text, rng))
        gaps = [n for n in range(1, len(text)) if text[n - 1] == " "]
        for start in rng.sample(gaps, min(len(gaps), rng.randint(1, 3))):
            pause_s = rng.uniform(0.6, 2.5)
            keys[start:] = [Key(key.at_s + pause_s, key.text) for key in keys[start:]]
        return tuple(keys)


@dataclass(frozen=True, slots=True)
class EditingModel(TypingModel):
    """Typing with slips that are taken back key by key, and a word that is changed at the end.

    Attributes:
        slip_share: share of words with a wrong letter, noticed up to two keys later.
        change_share: share of texts of which one earlier word is replaced after the last key.
    """

    slip_share: float = 0.15
    change_share: float = 0.5

    def keys(self, text: str, rng: random.Random) -> tuple[Key, ...]:
        """Return the keys; backspaces and the changed word are replacements."""
        words = text.split(" ")
        changed = rng.randrange(len(words)) if rng.random() < self.change_share else None
        states = [""]
        for number, word in enumerate(words):
            typed = words[number - 1] if number == changed and number else word
            for character in f" {typed}" if number else typed:
                states.append(states[-1] + character)
            if typed and rng.random() < self.slip_share:
                states += _slip(states.pop(), rng)
        if states[-1] != text:
            states.append(text)
        before = [state[-1:] or " " for state in states[:-1]]
        steps = zip(self._times(before, rng), states, states[1:], strict=False)
        return tuple(_key(at_s, old, new) for at_s, old, new in steps)


@dataclass(frozen=True, slots=True)
class SpeechModel:
    """Partial transcripts of speech: whole words, some misheard and corrected a word or two later.

    Every partial is the transcript so far. The last one, with the closing mark, comes when the
    recogniser finalises; the commit when it is sure that the speaker has ended.

    Attributes:
        words_per_minute: mean speed of speech.
        misheard_share: share of words that first appear wrong.
        finalise_s, endpoint_s: silence before the last partial, and from it to the commit.
    """

    words_per_minute: float = 150.0
    jitter: float = 0.35
    misheard_share: float = 0.2
    finalise_s: float = 0.15
    endpoint_s: float = 0.35

    def keys(self, text: str, rng: random.Random) -> tuple[Key, ...]:
        """Return one replacement per word, and the final transcript."""
        words = text.split(" ")
        weights = [rng.lognormvariate(0.0, self.jitter) for _ in words]
        scale = len(words) * 60.0 / self.words_per_minute / sum(weights)
        wrong: dict[int, int] = {}  # word -> with which later word it is put right
        keys, at_s = [], 0.0
        for number, weight in enumerate(weights):
            at_s += weight * scale
            if rng.random() < self.misheard_share:
                wrong[number] = number + rng.randint(1, 2)
            heard = [
                _misheard(word) if number < wrong.get(place, 0) else word
                for place, word in enumerate(words[: number + 1])
            ]
            keys.append(Key(at_s, " ".join(heard).rstrip(".?!"), replaces=True))
        return (*keys, Key(at_s + self.finalise_s, text, replaces=True))

    def think_s(self, rng: random.Random) -> float:
        """Return the rest of the silence that ends a turn."""
        return self.endpoint_s


@dataclass(frozen=True, slots=True)
class Paste:
    """The whole text at once, with the commit."""

    def keys(self, text: str, rng: random.Random) -> tuple[Key, ...]:
        """Return nothing."""
        return ()

    def think_s(self, rng: random.Random) -> float:
        """Return 0."""
        return 0.0


CADENCES: dict[str, Callable[[], Cadence]] = {
    "typing-240": lambda: TypingModel(240.0),
    "typing-400": lambda: TypingModel(400.0),
    "typing-600": lambda: TypingModel(600.0),
    "pauses-400": lambda: PausingModel(400.0),
    "edits-400": lambda: EditingModel(400.0),
    "speech-150": SpeechModel,
    "paste": Paste,
}


def cadence(name: str) -> Cadence:
    """Return a named cadence, or ``typing-N`` for N characters a minute.

    Raises:
        ValueError: there is no such cadence.
    """
    if name in CADENCES:
        return CADENCES[name]()
    kind, _, speed = name.partition("-")
    if kind == "typing" and speed.isdigit() and int(speed):
        return TypingModel(float(speed))
    raise ValueError(f"got {name!r}, need one of {', '.join(CADENCES)} or typing-N")


def _slip(right: str, rng: random.Random) -> list[str]:
    """Return the states of a slip on the last character, up to the right text."""
    wrong = right[:-1] + rng.choice([c for c in "etaoinshr" if c != right[-1]])
    states = [wrong]
    for _ in range(rng.randint(0, 2)):
        states.append(states[-1] + rng.choice("etaoinshr"))
    while len(states[-1]) >= len(right):
        states.append(states[-1][:-1])
    return [*states, right]


def _key(at_s: float, old: str, new: str) -> Key:
    if new.startswith(old):
        return Key(at_s, new[len(old) :])
    return Key(at_s, new, replaces=True)


def _misheard(word: str) -> str:
    """Return a word that sounds a little like it."""
    return word[:-1] if len(word) > 3 else f"{word}s"
