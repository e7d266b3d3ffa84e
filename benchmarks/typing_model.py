"""How a person types: a text becomes keys with times. Pure; the caller owns clock and seed."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """One key press: ``text`` appears ``at_s`` seconds after typing began."""

    at_s: float
    text: str


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
        weights = [
            rng.lognormvariate(0.0, self.jitter) * (self.word_pause if before == " " else 1.0)
            for before in f" {text}"[: len(text)]
        ]
        total_s = len(text) * 60.0 / self.chars_per_minute
        scale = total_s / sum(weights) if weights else 0.0
        keys, at_s = [], 0.0
        for weight, character in zip(weights, text, strict=True):
            at_s += weight * scale
            keys.append(Key(at_s, character))
        return tuple(keys)

    def think_s(self, rng: random.Random) -> float:
        """Return the seconds between the last key and Enter."""
        return self.think_ms / 1000.0 * rng.lognormvariate(0.0, self.think_jitter)
