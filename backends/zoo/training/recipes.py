"""What each expert is trained on, how large it is and how long it takes."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ..data import DOMAINS, Shape, topics
from ..facts import Topic
from ..model import CODER, COPY, FAST, PAIRS, SPECIALIST, Prior, Size


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the run: its share of the steps and the shape of its conversations."""

    share: float
    shape: Shape


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train one expert.

    An expert with a `start` begins from that expert's weights, with fresh embeddings of all domain
    words: it keeps the skill of looking up and forgets the vocabulary.
    """

    name: str
    domains: tuple[str, ...]
    size: Size
    steps: int
    stages: tuple[Stage, ...]
    matrix_lr: float = 0.01
    other_lr: float = 0.003
    batch_tokens: int = 4096
    start: str | None = None
    prior: Prior = PAIRS

    def topics(self) -> tuple[Topic, ...]:
        """Return the topics to draw from; every domain has the same weight."""
        return tuple(
            topic
            for domain in self.domains
            for _ in range(20 // len(topics(domain)))
            for topic in topics(domain)
        )


_REGULAR: Final = Shape(
    records=(1, 3),
    turns=(6, 10),
    p_refuse=0.15,
    p_system=0.1,
    p_no_documents=0.0,
    p_late=0.0,
    p_second_block=0.0,
    p_distractor=0.0,
    greetings=False,
)
_MIXED: Final = Shape(
    records=(1, 4),
    turns=(4, 10),
    p_refuse=0.2,
    p_no_documents=0.04,
    p_late=0.06,
    p_second_block=0.2,
    p_distractor=0.03,
    p_foreign=0.15,
    distractor_sentences=25,
)
_LONG: Final = Shape(
    records=(1, 4),
    turns=(1, 5),
    p_refuse=0.32,
    p_no_documents=0.06,
    p_late=0.1,
    p_second_block=0.2,
    p_distractor=0.1,
    p_foreign=0.15,
    distractor_sentences=150,
)
STAGES: Final = (Stage(0.3, _REGULAR), Stage(0.4, _MIXED), Stage(0.3, _LONG))

RECIPES: Final = MappingProxyType(
    {
        "fast": Recipe("fast", (*DOMAINS, "coding", "coding"), FAST, 1300, STAGES),
        "technical": Recipe("technical", ("technical",), SPECIALIST, 680, STAGES),
        "coding": Recipe("coding", ("coding",), CODER, 850, STAGES, batch_tokens=3072, prior=COPY),
        "general": Recipe("general", ("general",), SPECIALIST, 500, STAGES, start="technical"),
        "multilingual": Recipe(
            "multilingual", ("multilingual",), SPECIALIST, 400, STAGES, start="technical"
        ),
    }
)
