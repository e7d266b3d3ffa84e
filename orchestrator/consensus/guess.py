"""What is left of a draft that could not be used: a guess at the answer, to be verified."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ...backends.base import Capabilities, GenerationParams
from ..words import fold


@dataclass(frozen=True, slots=True)
class Guess:
    """Tokens of an answer to what may have been the beginning of the question.

    Attributes:
        question: what it answers.
        tokenizer_id: what they are tokens of; None = known to ``expert`` alone.
    """

    question: str
    expert: str
    tokenizer_id: str | None
    tokens: tuple[int, ...]

    def for_(self, question: str, expert: str, capabilities: Capabilities) -> tuple[int, ...]:
        """Return the tokens as this expert's draft for a question.

        Empty if they mean nothing to it, or if it is quite another question: most words of the one
        that they answer have to be in it, whatever their case and marks. Verifying keeps what is
        right, so that a guess at a question with a word misheard costs little.
        """
        asked, answered = Counter(fold(question).split()), Counter(fold(self.question).split())
        common = (asked & answered).total()
        if common < answered.total() - 1 and 2 * common < answered.total():
            return ()
        same = self.tokenizer_id is not None and self.tokenizer_id == capabilities.tokenizer_id
        return self.tokens if same or self.expert == expert else ()

    def after(self, begun: tuple[int, ...]) -> Guess | None:
        """Return how an answer that has begun like this goes on, None if it began otherwise."""
        if self.tokens[: len(begun)] != begun:
            return None
        return Guess(self.question, self.expert, self.tokenizer_id, self.tokens[len(begun) :])


def may_be_drafted(params: GenerationParams, capabilities: Capabilities) -> bool:
    """Whether drafted tokens leave the answer as it would be without.

    A seeded sample would be another one, and a client's own prediction comes first.
    """
    seeded = params.seed is not None and params.temperature != 0
    return capabilities.drafts and not seeded and params.prediction is None
