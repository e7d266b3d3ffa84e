"""Conversations about passages that hold the answer, made from the scenes of ``scenes.txt``.

A passage is a few sentences of one scene with people, places and numbers drawn anew; questions ask
for one of its facts, seldom for one that it lacks. The user's first message has the passage before
the question, behind it, or among numbered documents as the prompt layout renders them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...lexicon import words

SCENES: Final = Path(__file__).with_name("scenes.txt")
NUMERALS: Final = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
REFUSALS: Final = ("The text does not say.", "That is not in the text.")
REFUSALS_ES: Final = ("El texto no lo dice.",)
_TWICE = ("day", "month", "color", "hour", "crop", "food", "os", "part", "street")

Turn = tuple[str, str]
"""Role and content."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One line of a scene: a sentence with slots, and (question, answer) pairs about it."""

    text: str
    asked: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Scenes:
    """The parsed file: words for each slot, sentences of each scene."""

    words: Mapping[str, Sequence[str]]
    scenes: Mapping[str, Sequence[Sentence]]

    def conversation(self, numbers: random.Random) -> list[Turn]:
        """Return one to three questions about a passage, each with its answer."""
        name = numbers.choice(sorted(self.scenes))
        text, asked, missing = self._passage(name, numbers)
        picked = numbers.sample(asked, min(len(asked), numbers.choice((1, 2, 3))))
        spanish = name.startswith("es-")
        if missing and numbers.random() < 0.1:
            refusal = numbers.choice(REFUSALS_ES if spanish else REFUSALS)
            picked[0] = (numbers.choice(missing), refusal)
        turns: list[Turn] = []
        for question, answer in picked:
            user = _as_typed(question, numbers)
            if not turns:
                user = self._first(text, user, spanish, numbers)
            turns += [("user", user), ("assistant", _sentence(answer))]
        return turns

    def _first(self, text: str, question: str, spanish: bool, numbers: random.Random) -> str:
        shape = numbers.random()
        if shape < 0.55:
            return f"{text}\n\n{question}"
        if shape < 0.65:
            return f"{text}\n{question}"
        if shape < 0.72:
            return f"{text} {question}"
        if shape < 0.8:
            return f"{question}\n\n{text}"
        same = [name for name in sorted(self.scenes) if name.startswith("es-") is spanish]
        others = range(numbers.randint(1, 2))
        documents = [text, *(self._passage(numbers.choice(same), numbers)[0] for _ in others)]
        numbers.shuffle(documents)
        listed = "\n".join(f"[{number}] {one}" for number, one in enumerate(documents, 1))
        return f"{listed}\n\n{question}"

    def _passage(
        self, name: str, numbers: random.Random
    ) -> tuple[str, list[tuple[str, str]], list[str]]:
        """Return a text, what can be asked of it, and questions that it does not answer."""
        sentences, slots = self.scenes[name], self._slots(numbers)
        count = min(len(sentences), numbers.randint(2, 5))
        chosen = sorted(numbers.sample(range(len(sentences)), count))
        if numbers.random() < 0.25:
            numbers.shuffle(chosen)
        text = " ".join(_capital(_filled(sentences[place].text, slots)) for place in chosen)
        asked = [
            (_filled(question, slots), _filled(answer, slots))
            for place in chosen
            for question, answer in sentences[place].asked
        ]
        missing = [
            question
            for place, sentence in enumerate(sentences)
            if place not in chosen
            for question, _ in sentence.asked
            if "{" not in question
        ]
        return text, asked, missing

    def _slots(self, numbers: random.Random) -> dict[str, str]:
        slots = {name: numbers.choice(words) for name, words in self.words.items()}
        for name in _TWICE:
            slots[name], slots[f"{name}2"] = numbers.sample(self.words[name], 2)
        families = numbers.sample(self.words["family"], 5)
        firsts = numbers.sample(self.words["first"], 3)
        for place, slot in enumerate(("person", "person2", "person3")):
            first, family = firsts[place], families[place]
            slots[slot] = numbers.choice(
                (first, f"{first} {family}", f"{first} {family}", f"Mr. {family}", f"Ms. {family}")
            )
        slots["last"], slots["last2"] = families[3:]
        slots["town"], slots["town2"] = self._town(numbers), self._town(numbers)
        slots["n"], slots["m"] = str(numbers.randint(2, 30)), str(numbers.randint(12, 99))
        thousands = f"{numbers.randint(1, 60)},{numbers.randint(0, 9)}00"
        slots["big"] = numbers.choice(
            (str(numbers.randint(100, 999)), thousands, str(numbers.randint(1000, 9999)))
        )
        slots["year"] = str(numbers.randint(1780, 2023))
        cents = numbers.choice(("50", "20", "90"))
        slots["price"] = numbers.choice(
            (str(numbers.randint(2, 40)), f"{numbers.randint(2, 19)}.{cents}")
        )
        return slots

    def _town(self, numbers: random.Random) -> str:
        syllables = (numbers.choice(self.words["syllable"]) for _ in range(numbers.randint(1, 2)))
        return "".join(syllables).capitalize() + numbers.choice(self.words["ending"])


def load_scenes(file: Path = SCENES) -> Scenes:
    """Parse the file. Raises ValueError at a line of no known form."""
    words: dict[str, Sequence[str]] = {}
    scenes: dict[str, list[Sentence]] = {}
    current: list[Sentence] | None = None
    for line in file.read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if header := re.fullmatch(r"\[([\w-]+)\]", line):
            current = scenes[header[1]] = []
        elif current is None and " = " in line:
            name, _, listed = line.partition(" = ")
            words[name] = tuple(listed.split(" | "))
        elif current is not None:
            text, *pairs = line.split(" ? ")
            asked = [pair.split(" > ", 1) for pair in pairs]
            current.append(Sentence(text, tuple((pair[0], pair[1]) for pair in asked)))
        else:
            raise ValueError(f"{file.name}: no word list and no scene: {line[:60]}")
    return Scenes(words, scenes)


def sum_of_two(numbers: random.Random) -> list[Turn]:
    """Return a sum or difference with numbers up to twenty, in words or digits."""
    total = numbers.randint(1, 20)
    first = numbers.randint(0, total)
    names = NUMERALS if numbers.random() < 0.6 else [str(number) for number in range(21)]
    if numbers.random() < 0.6:
        asked, result = f"{names[first]} plus {names[total - first]}", total
    else:
        asked, result = f"{names[total]} minus {names[first]}", total - first
    question = numbers.choice(("What is {}?", "How much is {}?", "{}?", "what's {}")).format(asked)
    return [("user", _capital(question)), ("assistant", f"{_capital(asked)} is {result}.")]


def _filled(text: str, slots: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: slots[match[1]], text)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    return _capital(text if text.endswith((".", "!")) else f"{text}.")


def _as_typed(question: str, numbers: random.Random) -> str:
    asked, style = question.removesuffix("?").rstrip(), numbers.random()
    if style < 0.12:
        return asked
    return f"{asked[:1].lower()}{asked[1:]}?" if style > 0.9 else f"{asked}?"
