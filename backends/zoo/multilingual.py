"""The multilingual domain: lookups in five languages and a closed set of word translations."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from .facts import LookupTopic, Record, Split, Turn
from .languages import TRANSLATION_ANSWER, TRANSLATION_QUESTIONS, TRANSLATIONS

_TRANSLATION_SHARE: Final = 0.12


class LanguageTopic(LookupTopic):
    """One of the five languages: some turns ask for a translation from English, not a lookup."""

    def turn(
        self, rng: random.Random, split: Split, records: Sequence[Record], *, refuse: bool
    ) -> Turn:
        """Ask for a fact or for a translation."""
        if rng.random() < _TRANSLATION_SHARE:
            return translation(rng)
        return super().turn(rng, split, records, refuse=refuse)


def translation(rng: random.Random) -> Turn:
    """Return a question for one of the known translations.

    The set is closed: it is the same in both splits.
    """
    word = rng.choice(list(TRANSLATIONS))
    language = rng.choice(list(TRANSLATIONS[word]))
    question = rng.choice(TRANSLATION_QUESTIONS).format(w=word, l=language)
    answer = TRANSLATION_ANSWER.format(
        W=word.capitalize(), l=language, t=TRANSLATIONS[word][language]
    )
    return Turn(question, answer, "translate", word)
