"""Seeded conversations for training and evaluation, and the sample handbook with its questions.

Prompt layout, which the orchestrator renders identically: an optional `system` message, earlier
turns, one `documents` message, the `user` message. The documents message is
`render_documents(passages)`: each passage as `[n] {text}`, joined by newlines, where a passage text
is the entity on its first line and its sentences on the second. A documents message may also follow
the user message (documents that arrived late).
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .coding import CodingTopic
from .facts import LookupTopic, Record, Split, Topic, Turn
from .languages import LANGUAGES
from .lexicon import GENERAL, SYSTEM_MESSAGES, TECHNICAL
from .multilingual import LanguageTopic

DOMAINS: Final = ("general", "technical", "coding", "multilingual")
_TOPICS: Final[dict[str, tuple[Topic, ...]]] = {
    "general": (LookupTopic(GENERAL),),
    "technical": (LookupTopic(TECHNICAL),),
    "coding": (CodingTopic(),),
    "multilingual": tuple(map(LanguageTopic, LANGUAGES)),
}

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Shape:
    """How large and how irregular conversations are. Every field `p_*` is a probability.

    A distractor is a passage of sentences without facts; a foreign passage is one of another
    domain, which is never asked for.
    """

    records: tuple[int, int] = (1, 4)
    turns: tuple[int, int] = (1, 1)
    p_refuse: float = 0.2
    p_system: float = 0.25
    p_no_documents: float = 0.05
    p_late: float = 0.05
    p_second_block: float = 0.1
    p_distractor: float = 0.05
    p_foreign: float = 0.0
    distractor_sentences: int = 60
    greetings: bool = True


EVALUATION: Final = Shape(turns=(1, 2), p_foreign=0.15, greetings=False)
"""The shape of evaluation prompts: one to four passages, half of them after an earlier turn."""


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt (ending in a user or late documents message) with its exact answer."""

    messages: tuple[Message, ...]
    turn: Turn
    domain: str


_GREETINGS: Final = (
    ("Hello", "Hello. Ask me about the documents."),
    ("Hi there!", "Hello. Ask me about the documents."),
    ("Thank you.", "You are welcome."),
    ("Thanks!", "You are welcome."),
    ("Who are you?", "I am an embedded expert of LiveMind."),
    ("What can you do?", "I answer questions about the documents."),
)


def render_documents(passages: Sequence[str]) -> str:
    r"""Return the content of a documents message: `[1] {text}\n[2] {text}` in the given order."""
    return "\n".join(f"[{number}] {passage}" for number, passage in enumerate(passages, start=1))


def topics(domain: str) -> tuple[Topic, ...]:
    """Return the topics of a domain, one per language.

    Raises:
        KeyError: the domain is unknown.
    """
    return _TOPICS[domain]


def conversation(
    topic: Topic, rng: random.Random, split: Split, shape: Shape
) -> tuple[list[Message], list[Turn]]:
    """Return messages with assistant answers in place, and the turns that they answer, in order."""
    messages: list[Message] = []
    if rng.random() < shape.p_system:
        messages.append({"role": "system", "content": rng.choice(SYSTEM_MESSAGES)})
    turns: list[Turn] = []
    records: list[Record] = []
    total = rng.randint(*shape.turns)
    with_documents = rng.random() >= shape.p_no_documents
    second = rng.randrange(1, total) if total > 1 and rng.random() < shape.p_second_block else None
    asked: set[str] = set()
    for number in range(total):
        block = (
            _documents(topic, rng, split, shape, records)
            if with_documents and number in (0, second)
            else None
        )
        turn = _turn(topic, rng, split, shape, records, asked)
        question = {"role": "user", "content": turn.question}
        late = block is not None and rng.random() < shape.p_late
        messages += [m for m in ([question, block] if late else [block, question]) if m is not None]
        messages.append({"role": "assistant", "content": turn.answer})
        turns.append(turn)
    return messages, turns


def _documents(
    topic: Topic, rng: random.Random, split: Split, shape: Shape, records: list[Record]
) -> Message:
    """Return a documents message of new records, which are added to `records`."""
    taken = {record.entity for record in records}
    new: list[Record] = []
    for _ in range(rng.randint(*shape.records)):
        new.append(topic.record(rng, split, taken))
        taken.add(new[-1].entity)
    records += new
    passages = [record.text for record in new]
    if rng.random() < shape.p_distractor:
        count = rng.randint(5, max(5, shape.distractor_sentences))
        text = " ".join(topic.filler(rng) for _ in range(count))
        passages.insert(rng.randint(0, len(passages)), text)
    if shape.p_foreign and rng.random() < shape.p_foreign:
        others = [other for group in _TOPICS.values() if topic not in group for other in group]
        for _ in range(rng.randint(1, 2)):
            passages.insert(
                rng.randint(0, len(passages)), rng.choice(others).record(rng, split, set()).text
            )
    return {"role": "documents", "content": render_documents(passages)}


def _turn(
    topic: Topic,
    rng: random.Random,
    split: Split,
    shape: Shape,
    records: list[Record],
    asked: set[str],
) -> Turn:
    """Return a turn that was not asked before, as far as eight attempts find one."""
    if shape.greetings and rng.random() < 0.02:
        question, answer = rng.choice(_GREETINGS)
        return Turn(question, answer, "greeting")
    refuse = rng.random() < shape.p_refuse
    for _ in range(8):
        turn = topic.turn(rng, split, records, refuse=refuse)
        if turn.answer not in asked:
            break
    asked.add(turn.answer)
    return turn


def examples(domain: str, split: Split, seed: int, shape: Shape = EVALUATION) -> Iterator[Example]:
    """Yield prompts of a domain without end.

    The last question of each conversation is the one to answer.
    """
    rng = random.Random(f"{domain}|{split}|{seed}")
    while True:
        messages, turns = conversation(rng.choice(topics(domain)), rng, split, shape)
        yield Example(tuple(messages[:-1]), turns[-1], domain)


HANDBOOK_SEED: Final = 7
_HANDBOOK_SECTIONS: Final = {"general": 12, "technical": 14, "coding": 10, "multilingual": 4}
_HANDBOOK_FACTS: Final = {"Kestrel": "port", "Willow": "owner"}
"""Facts that documentation quotes: the section of this entity states this attribute."""


@functools.lru_cache(maxsize=1)
def handbook() -> tuple[tuple[str, Topic, Record], ...]:
    """Return the sections of the sample handbook.

    (domain, topic, record), each entity once, all facts held out.
    """
    rng = random.Random(HANDBOOK_SEED)
    sections: list[tuple[str, Topic, Record]] = []
    taken: set[str] = set()
    for domain, count in _HANDBOOK_SECTIONS.items():
        for topic in topics(domain):
            quoted = [entity for entity in _HANDBOOK_FACTS if entity in topic.entities]
            for number in range(count):
                excluded = (
                    set(topic.entities) - {quoted[number]}
                    if number < len(quoted)
                    else taken | set(_HANDBOOK_FACTS)
                )
                record = topic.record(rng, "held_out", excluded)
                while record.entity in _HANDBOOK_FACTS and _HANDBOOK_FACTS[
                    record.entity
                ] not in dict(record.facts):
                    record = topic.record(rng, "held_out", excluded)
                taken.add(record.entity)
                sections.append((domain, topic, record))
    return tuple(sections)


def handbook_questions() -> list[tuple[str, str, str, str]]:
    """Return (question, exact answer, domain, entity) for every fact of the handbook, in order."""
    rng = random.Random(HANDBOOK_SEED)
    return [
        (turn.question, turn.answer, domain, record.entity)
        for domain, topic, record in handbook()
        for turn in topic.turns_of(rng, record)
    ]


def write_handbook(directory: Path) -> list[Path]:
    """Write the sample handbook as Markdown.

    One file per domain or language, one `## Entity` section per passage.
    """
    files: dict[str, list[str]] = {}
    for domain, topic, record in handbook():
        name = domain if domain != "multilingual" else topic.language
        files.setdefault(name, []).append(f"## {record.entity}\n\n{' '.join(record.sentences)}\n")
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{name}.md" for name in files]
    for path, sections in zip(paths, files.values(), strict=True):
        path.write_text("\n".join(sections), encoding="utf-8")
    return paths
