"""The families of training prompts and the manners in which they are said."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from livemind.orchestrator.routing.dataset import DOMAINS
from livemind.orchestrator.routing.training.families import Family, load_families, sentence

FAMILIES = load_families()


def test_families_have_every_domain_in_sixteen_languages_and_more() -> None:
    by_language: dict[str, set[str]] = {}
    for family in FAMILIES:
        by_language.setdefault(family.language, set()).add(family.domain)
    assert len(by_language) >= 16
    assert all(found == set(DOMAINS) for found in by_language.values())


def test_families_have_names_of_their_own() -> None:
    assert Counter(family.name for family in FAMILIES).most_common(1)[0][1] == 1


def test_sentence_of_every_family_is_filled_in() -> None:
    rng = random.Random(1)
    for family in FAMILIES:
        text = sentence(family, rng)
        assert text
        assert not any(f"<{slot}>" in text for slot in family.slots), text


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("{a|b} <what>", {"a x", "b x", "a y", "b y"}),
        ("say {|<what>}", {"say", "say x", "say y"}),
        ("{{<what>}} ok", {"{x} ok", "{y} ok"}),
        ("really {so|} ?", {"really so?", "really?"}),
    ],
)
def test_sentence_chooses_among_all_that_a_pattern_says(pattern: str, texts: set[str]) -> None:
    family, rng = Family("f", "en", "general", "w", pattern, {"what": ("x", "y")}), random.Random(2)
    assert {sentence(family, rng) for _ in range(80)} == texts
