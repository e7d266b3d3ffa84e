"""What the embedded experts are asked about consensus: held-out questions in four sets.

The answer key is the generator's own (``is_correct``). Training saw none of these facts, and the
accuracies that weigh votes (``backends/zoo/results.json``) come from another seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ...backends.base import Message
from ...backends.zoo.check import is_correct
from ...backends.zoo.data import EVALUATION, Example, Shape, examples
from ...backends.zoo.facts import Turn
from ...orchestrator.consensus.options import AnswerForm
from ..workload.typing_model import Cadence, Key

SETS = ("in_domain", "unanswerable", "mixed", "out_of_domain")
VALIDATION_SEED = 1_000_000
_ENDS = ".?!"


class AnswerKey(Protocol):
    """Knows the right answer to one question."""

    def is_right(self, answer: str) -> bool | None:
        """Return whether an answer is right; None where no one answer is."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question with everything said before it.

    Attributes:
        kind: the set it belongs to.
        domain: whose question it is; also the id of the expert that is meant to know it.
        leader: the expert it is routed to; another domain's in ``out_of_domain``.
        key: tells a right answer from a wrong one.
        pasted: how the text begins, which nobody types.
        form, labels: in which a vote compares answers.
    """

    number: int
    kind: str
    domain: str
    leader: str
    instructions: str | None
    history: tuple[Message, ...]
    text: str
    key: AnswerKey
    form: AnswerForm = "text"
    labels: tuple[str, ...] = ()
    pasted: str = ""

    def keys(self, typist: Cadence, rng: random.Random) -> tuple[Key, ...]:
        """Return what is typed: all of the text but what is pasted, at once, at the beginning."""
        keys = typist.keys(self.typed, rng)
        if not self.pasted:
            return keys
        behind = (replace(k, text=self.pasted + k.text) if k.replaces else k for k in keys)
        return (Key(0.0, self.pasted), *behind)

    @property
    def typed(self) -> str:
        """The text behind what is pasted."""
        return self.text.removeprefix(self.pasted)

    def is_right(self, answer: str) -> bool:
        """Return whether an answer is the right one."""
        return bool(self.key.is_right(answer))


@dataclass(frozen=True, slots=True)
class GeneratedKey:
    """The generator's own key."""

    turn: Turn

    def is_right(self, answer: str) -> bool:
        """Return whether an answer is right; runs code in a process of its own."""
        return is_correct(self.turn, answer)


class Questions(Protocol):
    """Where questions come from; every seed draws others, or another order.

    Attributes:
        sets: the sets that ``measured`` asks from.
    """

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets."""

    def measured(self, per_set: int, seed: int) -> list[Question]:
        """Return ``per_set`` questions of every set and domain, shuffled."""

    def validation(self, count: int, seed: int) -> list[Question]:
        """Return other questions than ``measured`` has, to choose the best single expert by."""

    def natural(self, count: int, seed: int) -> list[Question]:
        """Return questions as they come, for texts and times."""


@dataclass(frozen=True, slots=True)
class EmbeddedQuestions:
    """Of the generator that the embedded experts were trained by, in these domains."""

    domains: tuple[str, ...]

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets; with one domain no question can be routed wrong."""
        return SETS if len(self.domains) > 1 else SETS[:-1]

    def measured(self, per_set: int, seed: int) -> list[Question]:
        """Return what ``questions`` returns."""
        return questions(self.domains, per_set, seed)

    def validation(self, count: int, seed: int) -> list[Question]:
        """Return questions of another seed."""
        return natural(self.domains, count, seed + VALIDATION_SEED)

    def natural(self, count: int, seed: int) -> list[Question]:
        """Return what ``natural`` returns."""
        return natural(self.domains, count, seed)


def questions(domains: Sequence[str], per_set: int, seed: int) -> list[Question]:
    """Return ``per_set`` questions of every set and domain, shuffled.

    ``in_domain``: answered by the documents. ``unanswerable``: they leave it open. ``mixed``: the
    documents are of several domains. ``out_of_domain``: answered by the documents, but routed to
    the next domain's expert (left out where there is one domain).
    """
    found = []
    for place, domain in enumerate(domains):
        other = domains[(place + 1) % len(domains)]
        plain = _asked(domain, seed, replace(EVALUATION, p_foreign=0.0))
        mixed = _asked(domain, seed, replace(EVALUATION, p_foreign=1.0, p_no_documents=0.0))
        drawn = {
            "in_domain": _first(plain, per_set, refused=False),
            "mixed": _first(mixed, per_set, refused=None),
            "out_of_domain": _first(plain, per_set if len(domains) > 1 else 0, refused=False),
            "unanswerable": _first(plain, per_set, refused=True),
        }
        for kind, asked in drawn.items():
            leader = other if kind == "out_of_domain" else domain
            found += [_question(kind, leader, one) for one in asked]
    return _numbered(found, seed)


def natural(domains: Sequence[str], count: int, seed: int) -> list[Question]:
    """Return ``count`` questions, the domains taking turns, as the evaluation of the experts."""
    streams = [_asked(domain, seed, EVALUATION) for domain in domains]
    chosen = [next(streams[n % len(streams)]) for n in range(count)]
    return _numbered([_question("natural", one.domain, one) for one in chosen], seed)


def with_its_end(question: Question) -> Question:
    """Return the question with a mark at its end, if it has none."""
    return question if question.text[-1] in _ENDS else replace(question, text=f"{question.text}?")


def without_its_end(text: str) -> str:
    """Return a text without the mark at its end."""
    return text.rstrip(_ENDS)


def paused(text: str, rng: random.Random) -> str:
    """Return the words up to a pause, which falls in the second half, never after the mark."""
    words = without_its_end(text).split(" ")
    return " ".join(words[: rng.randint(len(words) // 2 + len(words) % 2, len(words))])


def _asked(domain: str, seed: int, shape: Shape) -> Iterator[Example]:
    """Yield prompts that end in a question."""
    prompts = examples(domain, "held_out", seed, shape)
    return (one for one in prompts if one.messages[-1]["role"] == "user")


def _first(asked: Iterator[Example], count: int, *, refused: bool | None) -> list[Example]:
    found: list[Example] = []
    while len(found) < count:
        one = next(asked)
        if refused is None or (one.turn.kind == "refuse") == refused:
            found.append(one)
    return found


def _question(kind: str, leader: str, one: Example) -> Question:
    messages = [Message(m["role"], m["content"]) for m in one.messages]  # type: ignore[arg-type]
    system = [m.content for m in messages if m.role == "system"]
    history = tuple(m for m in messages[:-1] if m.role != "system")
    return Question(
        0, kind, one.domain, leader, next(iter(system), None), history, messages[-1].content,
        GeneratedKey(one.turn),
    )  # fmt: skip


def _numbered(found: list[Question], seed: int) -> list[Question]:
    random.Random(seed).shuffle(found)
    return [replace(one, number=number) for number, one in enumerate(found)]
