"""The multilingual domain: lookups in five languages and a closed set of word translations."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from .facts import LookupTopic, Record, Split, Turn
from .languages import LANGUAGES, TRANSLATION_ANSWER, TRANSLATION_QUESTIONS, TRANSLATIONS

TOPICS: Final = tuple(LookupTopic(vocabulary) for vocabulary in LANGUAGES)
_TRANSLATION_SHARE: Final = 0.12


class LanguageTopic:
    """One of the five languages.

    Some turns ask for a translation from English instead of a lookup.
    """

    def __init__(self, topic: LookupTopic) -> None:
        """Draw records and lookups from `topic`."""
        self._topic = topic

    @property
    def entities(self) -> tuple[str, ...]:
        """Every entity that a record can be about."""
        return self._topic.entities

    @property
    def language(self) -> str:
        """The language of the sentences, as a word in lower case."""
        return self._topic.language

    def record(self, rng: random.Random, split: Split, taken: set[str]) -> Record:
        """Return a record in this language."""
        return self._topic.record(rng, split, taken)

    def turn(
        self, rng: random.Random, split: Split, records: Sequence[Record], *, refuse: bool
    ) -> Turn:
        """Ask for a fact or for a translation."""
        if rng.random() < _TRANSLATION_SHARE:
            return translation(rng)
        return self._topic.turn(rng, split, records, refuse=refuse)

    def turns_of(self, rng: random.Random, record: Record) -> list[Turn]:
        """Return one lookup per fact of the record."""
        return self._topic.turns_of(rng, record)

    def filler(self, rng: random.Random) -> str:
        """Return a sentence without a fact."""
        return self._topic.filler(rng)


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
