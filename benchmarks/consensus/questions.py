"""What the consensus benchmark asks: held-out questions of the embedded experts, in four sets.

The answer key is the generator's own (``is_correct``). Training saw none of these facts, and the
accuracies that weigh votes (``backends/zoo/results.json``) come from another seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ...backends.base import Message
from ...backends.zoo.check import is_correct
from ...backends.zoo.data import EVALUATION, Example, Shape, examples
from ...backends.zoo.facts import Turn

SETS = ("in_domain", "unanswerable", "mixed", "out_of_domain")
VALIDATION_SEED = 1_000_000
_ENDS = ".?!"


@dataclass(frozen=True, slots=True)
class Question:
    """One question with everything said before it.

    Attributes:
        kind: one of ``SETS``.
        domain: whose question it is; also the id of the expert trained for it.
        leader: the expert it is routed to; another domain's in ``out_of_domain``.
    """

    number: int
    kind: str
    domain: str
    leader: str
    instructions: str | None
    history: tuple[Message, ...]
    text: str
    turn: Turn

    def is_right(self, answer: str) -> bool:
        """Return whether an answer is the right one; runs code in a process of its own."""
        return is_correct(self.turn, answer)


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
        one.turn,
    )  # fmt: skip


def _numbered(found: list[Question], seed: int) -> list[Question]:
    random.Random(seed).shuffle(found)
    return [replace(one, number=number) for number, one in enumerate(found)]
