from __future__ import annotations

import itertools
import random

import pytest

from livemind.benchmarks.typing_model import TypingModel

TEXT = "how does the lantern carry the bridge?"


def test_keys_any_seed_take_exactly_the_mean_time() -> None:
    keys = TypingModel(chars_per_minute=400).keys(TEXT, random.Random(3))
    assert keys[-1].at_s == pytest.approx(len(TEXT) * 60 / 400)


def test_keys_joined_are_the_text_in_rising_time() -> None:
    keys = TypingModel().keys(TEXT, random.Random(3))
    times = [key.at_s for key in keys]
    assert "".join(key.text for key in keys) == TEXT
    assert times[0] > 0
    assert times == sorted(times)


def test_keys_same_seed_repeats_other_seed_differs() -> None:
    model = TypingModel()
    assert model.keys(TEXT, random.Random(1)) == model.keys(TEXT, random.Random(1))
    assert model.keys(TEXT, random.Random(1)) != model.keys(TEXT, random.Random(2))


def test_keys_without_jitter_pause_before_words_only() -> None:
    keys = TypingModel(jitter=0.0, word_pause=3.0).keys("ab cd", random.Random(1))
    gaps = [b.at_s - a.at_s for a, b in itertools.pairwise(keys)]
    assert gaps[2] == pytest.approx(3 * gaps[0])
    assert gaps[1] == pytest.approx(gaps[0])


def test_keys_empty_text_has_none() -> None:
    assert TypingModel().keys("", random.Random(1)) == ()


def test_speed_not_positive_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="chars_per_minute: got 0"):
        TypingModel(chars_per_minute=0)
