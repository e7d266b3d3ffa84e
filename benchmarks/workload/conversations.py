"""What is asked: seeded conversations with documents of a given length.

``FILLER`` turns are plain questions of travellers, for experts whose answers mean nothing (random
weights); a domain's turns come from the embedded experts' own generator, one passage holding the
answer.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

FILLER = "filler"
_PLACE_NAMES = (
    "harbour island valley forest lake market castle station museum beach village mountain "
    "bridge garden lighthouse monastery waterfall vineyard theatre stadium abbey canyon pier square"
)
_VEHICLE_NAMES = "ferry tram bus train boat coach funicular shuttle"
_PLACES, _VEHICLES = _PLACE_NAMES.split(), _VEHICLE_NAMES.split()
_WHEN = (
    "on a sunday evening",
    "early in the morning",
    "during the winter",
    "before the shops open",
    "on public holidays",
    "late at night",
    "in the rainy season",
    "when it snows",
)
_QUESTIONS = (
    "when does the {v} from the {a} to the {b} leave {w}?",
    "how long does the {v} need from the {a} to the {b} {w}?",
    "where can I board the {v} near the {a} for the {b} {w}?",
    "which {v} goes past the {a} and stops at the {b} {w}?",
    "what does a day ticket for the {v} from the {a} cost for two people {w}?",
    "how often does the {v} call at the {a} and is it ever late {w}?",
    "can I take a dog or a bicycle with me on the {v} to the {a} {w}?",
)
_FACTS = (
    "The {v} {n} leaves the {a} for the {b} every {m} minutes.",
    "From the {a} the {v} {n} needs {m} minutes to the {b}.",
    "A ticket for the {v} {n} from the {a} to the {b} costs {m} francs.",
    "The {v} {n} passes the {a} and stops {m} metres before the {b}.",
)


@dataclass(frozen=True, slots=True)
class TurnInput:
    """One turn: what is typed, and the documents attached when typing begins."""

    question: str
    documents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Questions asked one after the other, each after the answer to the one before.

    Attributes:
        documents: stand before the first question.
        max_tokens: length of every answer; None = the run's.
    """

    questions: tuple[str, ...]
    documents: tuple[str, ...] = ()
    instructions: str | None = None
    max_tokens: int | None = None


def conversation(
    kind: str, seed: int, index: int, documents_chars: int, turns: int
) -> Conversation:
    """Return conversation ``index`` of a workload: ``turn_input`` and follow-up questions."""
    first = turn_input(kind, seed, index, documents_chars)
    more = (turn_input(kind, seed, index * 1000 + n, 0).question for n in range(1, turns))
    return Conversation((first.question, *more), first.documents)


def turn_input(kind: str, seed: int, index: int, documents_chars: int) -> TurnInput:
    """Return turn ``index`` of a workload; the same arguments give the same turn.

    Args:
        kind: ``FILLER`` or a domain of the embedded experts.
        seed: of the whole run.
        index: turns differ in question and documents from their first token on.
        documents_chars: length of all documents together, met within one sentence.
    """
    rng = random.Random(f"{kind}|{seed}|{index}")
    if kind == FILLER:
        return TurnInput(_question(rng), _pad([], rng, documents_chars))
    return _domain_turn(kind, rng, documents_chars)


def corpus(kind: str, seed: int, passages: int, passage_chars: int) -> str:
    """Return a text in sections that retrieval can find a workload's questions in.

    Args:
        kind: see ``turn_input``.
        seed: of the run.
        passages: sections per subject (``FILLER``), or in all.
        passage_chars: length of a section, met within one sentence.
    """
    rng = random.Random(f"{kind}|{seed}|corpus")
    if kind == FILLER:
        places = [place for place in _PLACES for _ in range(passages)]
        sections = [(f"The {place}", _about(place, rng, passage_chars)) for place in places]
    else:
        sections = _domain_sections(kind, rng, passage_chars)
    return "\n\n".join(f"# {title}\n\n{body}" for title, body in sections) + "\n"


def _question(rng: random.Random) -> str:
    a, b = rng.sample(_PLACES, 2)
    template, vehicle, when = rng.choice(_QUESTIONS), rng.choice(_VEHICLES), rng.choice(_WHEN)
    return template.format(v=vehicle, a=a, b=b, w=when)


def _sentence(rng: random.Random, place: str | None = None) -> str:
    """Return a sentence about two places, the first of them given or drawn."""
    a = place or rng.choice(_PLACES)
    b = rng.choice([other for other in _PLACES if other != a])
    vehicle, number, amount = rng.choice(_VEHICLES), rng.randint(100, 999), rng.randint(2, 60)
    return rng.choice(_FACTS).format(v=vehicle, n=number, a=a, b=b, m=amount)


def _about(place: str, rng: random.Random, chars: int) -> str:
    """Return sentences about one place."""
    found = ""
    while len(found) < chars:
        found += f"{_sentence(rng, place)} "
    return found.rstrip()


def _pad(passages: list[str], rng: random.Random, chars: int) -> tuple[str, ...]:
    """Add passages of plain sentences until the length is reached."""
    missing = chars - sum(map(len, passages))
    while missing > 0:
        sentences = [_sentence(rng) for _ in range(rng.randint(4, 8))]
        while len(sentences) > 1 and len(" ".join(sentences)) > missing:
            sentences.pop()
        passages.append(" ".join(sentences))
        missing -= len(passages[-1])
    return tuple(passages)


def _domain_turn(domain: str, rng: random.Random, chars: int) -> TurnInput:
    """One answering record among distractors of the same domain, in random order."""
    from ...backends.zoo.data import topics

    topic = rng.choice(topics(domain))
    gold = topic.record(rng, "held_out", set())
    passages, taken = [gold.text], {gold.entity}
    while sum(map(len, passages)) < chars:
        try:
            record = topic.record(rng, "held_out", taken)
        except IndexError:  # every entity of the domain is used
            break
        taken.add(record.entity)
        passages.append(record.text)
    rng.shuffle(passages)
    question = topic.turn(rng, "held_out", [gold], refuse=False).question
    fillers: list[str] = []
    while sum(map(len, passages)) + sum(map(len, fillers)) < chars:
        fillers.append(topic.filler(rng))
    return TurnInput(question, (*passages, " ".join(fillers)) if fillers else tuple(passages))


def _domain_sections(domain: str, rng: random.Random, chars: int) -> list[tuple[str, str]]:
    """Return one section per entity of the domain: its record, and sentences without facts."""
    from ...backends.zoo.data import topics

    found = []
    for topic in topics(domain):
        taken: set[str] = set()
        while len(taken) < len(topic.entities):
            record = topic.record(rng, "held_out", taken)
            taken.add(record.entity)
            body = " ".join(record.sentences)
            while len(body) < chars:
                body += f" {topic.filler(rng)}"
            found.append((record.entity, body))
    return found
