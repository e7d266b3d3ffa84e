"""The language of a text against those of the house."""

from __future__ import annotations

import pytest

from livemind.orchestrator.routing.language import UNKNOWN, held_against, identify, ranked
from livemind.orchestrator.routing.signals import HARD_LANGUAGE_NATS

pytest.importorskip("py3langid")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Où est la bibliothèque la plus proche ?", "fr"),
        ("Wo finde ich eine Apotheke in der Nähe?", "de"),
        ("Где находится ближайшая аптека?", "ru"),
        ("一番近い駅はどこですか?", "ja"),
    ],
)
def test_identify_foreign_question_is_beyond_doubt(text: str, code: str) -> None:
    found = identify(text, ("en", "es"))
    assert found.code == code
    assert found.margin >= HARD_LANGUAGE_NATS


@pytest.mark.parametrize("text", ["What is the port of Kestrel?", "¿Cuál es el precio del pan?"])
def test_identify_house_language_is_never_foreign(text: str) -> None:
    assert identify(text, ("en", "es")).margin < 0


def test_identify_spanish_outside_the_house_is_foreign() -> None:
    assert identify("¿Dónde está la estación de tren?", ("en",)).margin >= HARD_LANGUAGE_NATS


def test_identify_text_without_letters_is_unknown() -> None:
    assert identify("42 + 1 = ?", ("en",)) == UNKNOWN


@pytest.mark.parametrize("house", [("en", "es"), ("de",), ("ja", "fi")])
@pytest.mark.parametrize("text", ["where does the ferry leave", "wann fährt die fähre", "どこ"])
def test_margin_is_that_of_the_likeliest_language_inside_and_outside(
    text: str, house: tuple[str, ...]
) -> None:
    scores = ranked(text)
    inside = max(score for code, score in scores.items() if code in house)
    outside = max(score for code, score in scores.items() if code not in house)
    assert held_against(scores, house).margin == outside - inside
