from __future__ import annotations

import itertools
import random

import pytest

from livemind.benchmarks.workload.typing_model import (
    CADENCES,
    EditingModel,
    Key,
    SpeechModel,
    TypingModel,
    cadence,
)

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


def _played(keys: tuple[Key, ...]) -> str:
    text = ""
    for key in keys:
        text = key.text if key.replaces else text + key.text
    return text


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", [name for name in CADENCES if name != "paste"])
def test_cadence_any_seed_ends_in_the_text_in_rising_time(name: str, seed: int) -> None:
    keys = cadence(name).keys(TEXT, random.Random(seed))
    times = [key.at_s for key in keys]
    assert _played(keys) == TEXT
    assert times == sorted(times)


def test_cadence_pauses_come_on_top_of_the_typing_time() -> None:
    keys = cadence("pauses-400").keys(TEXT, random.Random(3))
    gaps = [b.at_s - a.at_s for a, b in itertools.pairwise(keys)]
    assert keys[-1].at_s > len(TEXT) * 60 / 400 + 0.6
    assert 1 <= sum(gap > 0.6 for gap in gaps) <= 3


def test_editing_takes_slips_back_key_by_key() -> None:
    keys = EditingModel(slip_share=1.0, change_share=0.0).keys("ab cd", random.Random(1))
    taken_back = [key.text for key in keys if key.replaces]
    assert "a" in taken_back
    assert "ab c" in taken_back
    assert _played(keys) == "ab cd"


def test_editing_changed_word_is_put_right_after_the_last_key() -> None:
    model = EditingModel(slip_share=0.0, change_share=1.0)
    changed = [model.keys(TEXT, random.Random(seed))[-1] for seed in range(20)]
    assert any(key.replaces and key.text == TEXT for key in changed)


def test_speech_words_come_at_the_mean_speed_and_some_are_corrected() -> None:
    text = "how does the lantern carry the bridge over the harbour?"
    model = SpeechModel(words_per_minute=150, misheard_share=0.5)
    keys = model.keys(text, random.Random(2))
    words = text.rstrip("?").split(" ")
    assert keys[len(words) - 1].at_s == pytest.approx(len(words) * 60 / 150)
    partials = [key.text.split(" ") for key in keys]
    assert any(partial != words[: len(partial)] for partial in partials[:-1])
    assert not keys[-2].text.endswith("?")
    assert keys[-1].text == text


def test_cadence_names_any_typing_speed_and_refuses_others() -> None:
    assert cadence("typing-1234") == TypingModel(1234.0)
    for name in ("typing-0", "typing-x", "humming"):
        with pytest.raises(ValueError, match=f"got '{name}', need one of typing-240"):
            cadence(name)
