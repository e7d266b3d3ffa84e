"""The coding domain: small rules in words, and the Python functions that they define."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from .facts import Record, Split, Turn, split_of
from .lexicon import FUNCTION_NAMES

FILLERS: Final = (
    "All arguments are integers.",
    "These functions have no side effects.",
    "The module has no other dependencies.",
    "Tests run on every commit.",
    "The code is kept simple.",
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of function.

    The words, the Python expression, and what it computes for x, a and b.
    """

    words: str
    expression: str
    apply: Callable[[int, int, int], int | bool]


RULES: Final = (
    Rule("multiplies x by {a} and adds {b}", "x * {a} + {b}", lambda x, a, b: x * a + b),
    Rule("multiplies x by {a} and subtracts {b}", "x * {a} - {b}", lambda x, a, b: x * a - b),
    Rule("adds {a} to x", "x + {a}", lambda x, a, b: x + a),
    Rule("subtracts {a} from x", "x - {a}", lambda x, a, b: x - a),
    Rule("multiplies x by {a}", "x * {a}", lambda x, a, b: x * a),
    Rule("squares x and adds {a}", "x * x + {a}", lambda x, a, b: x * x + a),
    Rule("divides x by {a} without rest", "x // {a}", lambda x, a, b: x // a),
    Rule("takes the rest of x divided by {a}", "x % {a}", lambda x, a, b: x % a),
    Rule("returns the larger of x and {a}", "max(x, {a})", lambda x, a, b: max(x, a)),
    Rule("returns the smaller of x and {a}", "min(x, {a})", lambda x, a, b: min(x, a)),
    Rule("checks that x is above {a}", "x > {a}", lambda x, a, b: x > a),
    Rule("checks that x is below {a}", "x < {a}", lambda x, a, b: x < a),
)
SENTENCE: Final = "The function {e} {r}."
REFUSAL: Final = "The function {e} is not in the documents."
CODE: Final = "# The function {e} {r}.\ndef {e}(x):\n    return {x}"
WRITE_QUESTIONS: Final = (
    "Write the Python function {e}.",
    "write the function {e}",
    "Implement {e} in Python.",
    "Show me the code of {e}.",
    "I need the function {e} in Python.",
    "Code the function {e}, please.",
    "Can you write {e} in Python?",
)
EXPLAIN_QUESTIONS: Final = (
    "What does {e} do?",
    "what does the function {e} do",
    "Explain the function {e}.",
)
DIRECT_QUESTIONS: Final = (
    "Write a Python function {e} that {r}.",
    "Write a function {e} that {r}.",
    "I need a Python function {e} that {r}.",
)


class CodingTopic:
    """Records define functions.

    Turns ask for their code, for what they do, or for a function described in the question.
    """

    def __init__(self, names: Sequence[str] = FUNCTION_NAMES) -> None:
        """Use `names` as function names."""
        self._names = tuple(names)

    @property
    def entities(self) -> tuple[str, ...]:
        """Every function name that a record can be about."""
        return self._names

    @property
    def language(self) -> str:
        """The language of the sentences, as a word in lower case."""
        return "english"

    def _rule(self, rng: random.Random, split: Split, name: str) -> tuple[str, str, str]:
        """Return (words, expression, key) of a rule whose fact lies in `split`."""
        while True:
            rule = rng.choice(RULES)
            a, b = rng.randint(2, 99), rng.randint(2, 99)
            words, expression = rule.words.format(a=a, b=b), rule.expression.format(a=a, b=b)
            if split_of(name, "function", words) == split:
                return words, expression, words

    def record(self, rng: random.Random, split: Split, taken: set[str]) -> Record:
        """Return a record that defines one function."""
        name = rng.choice([n for n in self._names if n not in taken])
        words, expression, _ = self._rule(rng, split, name)
        sentences = [SENTENCE.format(e=name, r=words)]
        if rng.random() < 0.2:
            sentences.insert(rng.randint(0, 1), self.filler(rng))
        return Record(name, tuple(sentences), ((words, expression),))

    def turn(
        self, rng: random.Random, split: Split, records: Sequence[Record], *, refuse: bool
    ) -> Turn:
        """Ask for code or for an explanation.

        The function is defined in a record, in the question itself, or (a refusal) nowhere.
        """
        if rng.random() < 0.25:
            name = rng.choice(self._names)
            words, expression, _ = self._rule(rng, split, name)
            question = rng.choice(DIRECT_QUESTIONS).format(e=name, r=words)
            return Turn(question, CODE.format(e=name, r=words, x=expression), "code_direct", name)
        explain = rng.random() < 0.25
        question = rng.choice(EXPLAIN_QUESTIONS if explain else WRITE_QUESTIONS)
        if refuse or not records:
            taken = {r.entity for r in records}
            name = rng.choice([n for n in self._names if n not in taken])
            comment = "" if explain else "# "
            refusal = comment + REFUSAL.format(e=name)
            return Turn(question.format(e=name), refusal, "refuse", name)
        record = rng.choice(records)
        (words, expression), name = record.facts[0], record.entity
        if explain:
            return Turn(question.format(e=name), SENTENCE.format(e=name, r=words), "lookup", name)
        return Turn(
            question.format(e=name), CODE.format(e=name, r=words, x=expression), "code", name
        )

    def turns_of(self, rng: random.Random, record: Record) -> list[Turn]:
        """Ask for the code of the function and for what it does."""
        (words, expression), name = record.facts[0], record.entity
        write, explain = rng.choice(WRITE_QUESTIONS), rng.choice(EXPLAIN_QUESTIONS)
        return [
            Turn(write.format(e=name), CODE.format(e=name, r=words, x=expression), "code", name),
            Turn(explain.format(e=name), SENTENCE.format(e=name, r=words), "lookup", name),
        ]

    def filler(self, rng: random.Random) -> str:
        """Return a sentence without a definition."""
        return rng.choice(FILLERS)
