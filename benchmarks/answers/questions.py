"""The questions of ``livemind bench answers``, and when an answer counts as right."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ..bench import BenchmarkFailed

QUESTIONS = Path(__file__).parents[1] / "data" / "answers.jsonl"
_SENTENCE = re.compile(r"(?<!\bDr\.)(?<!\bMr\.)(?<!\bMs\.)(?<=[.!?])\s+(?=[A-ZÁÉÍÓÚÑ¿¡])")
SETS = ("everyday", "passage", "passage_unseen", "passage_es")


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """One question.

    Attributes:
        part: the set it belongs to.
        question: what is asked.
        right: words of which a right answer has one; empty = there is no one answer.
        passage: pasted before the question, empty if none.
    """

    part: str
    question: str
    right: tuple[str, ...]
    passage: str = ""

    @property
    def text(self) -> str:
        """What the user sends."""
        return f"{self.passage}\n\n{self.question}" if self.passage else self.question

    def is_right(self, answer: str) -> bool | None:
        """Whether its first sentence has a right word; None where there is no one answer."""
        if not self.right:
            return None
        said = _SENTENCE.split(answer.strip(), maxsplit=1)[0].casefold()
        return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", said) for word in self.right)


def load_questions(file: Path = QUESTIONS) -> list[AskedQuestion]:
    """Return the questions in the order of the file. Raises BenchmarkFailed."""
    found = []
    try:
        for line in file.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            right = tuple(word.casefold() for word in entry["right"])
            found.append(
                AskedQuestion(entry["set"], entry["question"], right, entry.get("passage", ""))
            )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise BenchmarkFailed(f"{file.name}: {type(exc).__name__}: {exc}") from None
    return found
