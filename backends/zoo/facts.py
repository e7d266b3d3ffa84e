"""Facts, records and turns: what a document says about an entity, and what can be asked about it.

A record is one entity with its sentences; it becomes one passage. A turn is one question with its
exact answer. The split is decided per fact by a checksum of its parts, so a held-out fact never
occurs in training, on any machine or seed.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from .lexicon import NUMBER, Vocabulary

Split = Literal["train", "held_out"]
HELD_OUT_SHARE: Final = 8
"""One fact in this many is held out."""


@dataclass(frozen=True, slots=True)
class Record:
    """One entity with what a document says about it.

    `facts` are (attribute, value) pairs in the order of the text.
    """

    entity: str
    sentences: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """The passage: the entity on the first line, its sentences on the second."""
        return f"{self.entity}\n{' '.join(self.sentences)}"


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its exact answer.

    `kind` says which skill it needs (`lookup`, `refuse`, `code`, `translate`, ...).
    """

    question: str
    answer: str
    kind: str
    entity: str = ""


class Topic(Protocol):
    """A source of records and turns: one domain in one language."""

    @property
    def entities(self) -> tuple[str, ...]:
        """Every entity that a record can be about."""
        ...

    @property
    def language(self) -> str:
        """The language of the sentences, as a word in lower case."""
        ...

    def record(self, rng: random.Random, split: Split, taken: set[str]) -> Record:
        """Return a record of an entity outside `taken`, all of its facts in `split`."""
        ...

    def turn(
        self, rng: random.Random, split: Split, records: Sequence[Record], *, refuse: bool
    ) -> Turn:
        """Return a question on the records, or with `refuse` one that they leave open."""
        ...

    def turns_of(self, rng: random.Random, record: Record) -> list[Turn]:
        """Return one turn per fact of the record, in the order of its text."""
        ...

    def filler(self, rng: random.Random) -> str:
        """Return a sentence without a fact."""
        ...


def split_of(*parts: str) -> Split:
    """Return the split of a fact, given by its parts (entity, attribute, value)."""
    return "held_out" if zlib.crc32("|".join(parts).encode()) % HELD_OUT_SHARE == 0 else "train"


class LookupTopic:
    """Facts of the form `The port of Kestrel is 361.`, answered by that sentence or a refusal."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Use the words and templates of `vocabulary`."""
        self._words = vocabulary
        self._attributes = tuple(vocabulary.attributes)

    @property
    def entities(self) -> tuple[str, ...]:
        """Every entity that a record can be about."""
        return self._words.entities

    @property
    def language(self) -> str:
        """The language of the sentences, as a word in lower case."""
        return self._words.language

    def _fill(self, template: str, attribute: str, entity: str, value: str = "") -> str:
        article = self._words.article(attribute)
        return template.format(
            a=attribute, e=entity, v=value, the=article, The=article.capitalize()
        )

    def _value(self, rng: random.Random, attribute: str) -> str:
        values = self._words.attributes[attribute]
        return str(rng.randrange(1000)) if values is NUMBER else rng.choice(values)

    def record(self, rng: random.Random, split: Split, taken: set[str]) -> Record:
        """Return a record of two to five facts, at times with its kind or a filler sentence."""
        entity = rng.choice([e for e in self._words.entities if e not in taken])
        wanted = rng.randint(2, 5)
        facts: list[tuple[str, str]] = []
        for attribute in rng.sample(self._attributes, len(self._attributes)):
            for _ in range(40):
                value = self._value(rng, attribute)
                if split_of(entity, attribute, value) == split:
                    facts.append((attribute, value))
                    break
            if len(facts) == wanted:
                break
        sentences = [self._fill(self._words.fact, a, entity, v) for a, v in facts]
        if self._words.kinds and rng.random() < 0.3:
            sentences.insert(0, self._words.kind.format(e=entity, k=rng.choice(self._words.kinds)))
        if self._words.fillers and rng.random() < 0.1:
            sentences.insert(rng.randint(0, len(sentences)), self.filler(rng))
        return Record(entity, tuple(sentences), tuple(facts))

    def turn(
        self, rng: random.Random, split: Split, records: Sequence[Record], *, refuse: bool
    ) -> Turn:
        """Ask for a fact of the records, or for one they lack.

        In a refusal the entity, the attribute or only the pair of both is missing.
        """
        if records and not refuse:
            record = rng.choice(records)
            attribute, value = rng.choice(record.facts)
            answer, kind = self._fill(self._words.fact, attribute, record.entity, value), "lookup"
            entity = record.entity
        else:
            entity, attribute = self._unanswered(rng, records)
            answer, kind = self._fill(self._words.refusal, attribute, entity), "refuse"
        question = self._fill(rng.choice(self._words.questions), attribute, entity)
        if self.language == "english" and rng.random() < 0.08:
            question = question.lower()
        return Turn(question, answer, kind, entity)

    def turns_of(self, rng: random.Random, record: Record) -> list[Turn]:
        """Ask for every fact of the record, in one of the full-sentence phrasings."""
        phrasings = [
            question
            for question in self._words.questions
            if question[0].isupper() or question[0] == "¿"
        ]
        return [
            Turn(
                self._fill(rng.choice(phrasings), attribute, record.entity),
                self._fill(self._words.fact, attribute, record.entity, value),
                "lookup",
                record.entity,
            )
            for attribute, value in record.facts
        ]

    def _unanswered(self, rng: random.Random, records: Sequence[Record]) -> tuple[str, str]:
        known = {(r.entity, a) for r in records for a, _ in r.facts}
        present = sorted({a for _, a in known})
        while True:
            entity = (
                rng.choice(records).entity
                if records and rng.random() < 0.5
                else rng.choice(self._words.entities)
            )
            attribute = (
                rng.choice(present)
                if present and rng.random() < 0.5
                else rng.choice(self._attributes)
            )
            if (entity, attribute) not in known:
                return entity, attribute

    def filler(self, rng: random.Random) -> str:
        """Return a sentence without a fact."""
        return rng.choice(self._words.fillers)
