"""What any models are asked about consensus: questions about a passage, closed and open."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...orchestrator.consensus.options import AnswerForm
from ..answers.questions import AskedQuestion, load_questions
from .questions import Question

MEASURED = Path(__file__).parents[1] / "data" / "consensus_questions.jsonl"
FORMS: dict[str, AnswerForm] = {"number": "number", "choice": "label", "open": "text"}
"""Set -> form in which a vote compares its answers; an open answer has none but its words."""
MODEL_SETS = tuple(FORMS)
LABELS = ("yes", "no")
_VALIDATION_SETS = ("passage", "passage_unseen")


@dataclass(frozen=True, slots=True)
class ModelQuestions:
    """Questions that nobody was trained on; ``leader`` is the expert they are routed to."""

    leader: str

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets."""
        return MODEL_SETS

    def measured(self, per_set: int, seed: int) -> list[Question]:
        """Return ``per_set`` questions of every set, or as many as there are, shuffled."""
        asked = load_questions(MEASURED)
        of_set = ([one for one in asked if one.part == kind] for kind in MODEL_SETS)
        return self._drawn([one for some in of_set for one in some[:per_set]], seed)

    def validation(self, count: int, seed: int) -> list[Question]:
        """Return other questions, those of ``bench answers``; ``count`` or as many as there are."""
        asked = [one for one in load_questions() if one.part in _VALIDATION_SETS]
        return self._drawn(asked, seed)[:count]

    def natural(self, count: int, seed: int) -> list[Question]:
        """Return ``count`` of the measured ones, or as many as there are."""
        return self._drawn(load_questions(MEASURED), seed)[:count]

    def _drawn(self, asked: Sequence[AskedQuestion], seed: int) -> list[Question]:
        order = random.Random(seed).sample(asked, len(asked))
        return [self._question(number, one) for number, one in enumerate(order)]

    def _question(self, number: int, one: AskedQuestion) -> Question:
        form = FORMS.get(one.part, "text")
        labels = LABELS if form == "label" else ()
        who = (self.leader, self.leader)
        pasted = one.text.removesuffix(one.question)
        return Question(number, one.part, *who, None, (), one.text, one, form, labels, pasted)
