"""Whether an arm's answer is the reference's: asks again, untimed, where that is needed to know.

Answers are compared only when they answer the same prompt. What a retrieving arm answered from is
rarely what the reference was given, so the reference is asked once more with exactly those
documents; where the prompts still differ, or another expert answered, there is no verdict. An arm
that was given the reference's documents has the reference's prompt, or its answer is different.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from ..figures.answer import Answer
from ..figures.identity import Comparison, Explanation, compare
from ..figures.turns import BlockResult, Turn, misrouted
from ..harness.doors import UNREACHABLE
from ..harness.library import Used
from ..harness.targets import Targets
from ..harness.wire import Ask, Said
from ..workload.arms import Arm
from ..workload.conversations import Conversation
from ..workload.plan import Case

_FOUND: Used = ((), ())
"""Nothing is given: the reference finds its documents itself."""
Asking = Callable[[Case, Conversation, Arm | None], Ask]
"""How a conversation is asked in an arm, under a fresh salt."""


class Verdicts:
    """Compares the answers of one block."""

    def __init__(
        self,
        ask: Asking,
        reference: Arm,
        targets: Targets,
        case: Case,
        talks: Mapping[int, Conversation],
    ) -> None:
        self._ask = ask
        self._targets = targets
        self._case = case
        self._talks = talks
        self._reference = reference
        self._again: dict[tuple[int, int, Used], Answer | None] = {}

    async def compare(self, result: BlockResult) -> None:
        """Write ``comparison`` into every answer that can be compared."""
        answers = result.answers()
        for turn in result.turns:
            base = answers.get((self._reference.id, turn.conversation, turn.turn))
            if turn.arm == self._reference or base is None:
                continue
            if misrouted(turn, self._case.expert.expert_id):
                continue
            if base.outcome == turn.answer.outcome == "completed":
                earlier = range(turn.turn)
                same = all(
                    answers[turn.arm.id, turn.conversation, n].text
                    == answers[self._reference.id, turn.conversation, n].text
                    for n in earlier
                )
                if same:
                    await self._judge(turn, base)

    async def _judge(self, turn: Turn, base: Answer) -> None:
        if self._retrieves(self._reference):  # on the final text's documents, whatever they are
            used = _FOUND if _same_documents(base, turn.answer) else None
        else:
            used = self._used(turn)
        if used is not None:
            turn.answer.comparison = await self._compare(turn, base, used)

    async def _compare(self, turn: Turn, base: Answer, used: Used) -> Comparison | None:
        answer, given = turn.answer, (self._talks[turn.conversation].documents, ())
        reference = base if used == given else await self._ask_again(turn, used)
        if reference is None:
            return None
        if not _same_prompt(reference, answer):
            return None if self._retrieves(turn.arm) else Comparison("different")
        told = None
        if reference.text != answer.text:
            again = await self._ask_again(turn, used)
            told = None if again is None else Explanation(again.text, again.tokens)
        return compare(reference.text, answer.text, told)

    def _used(self, turn: Turn) -> Used | None:
        """Return the documents that a turn had; None = not known, or another prompt."""
        doors = self._targets.doors
        if "first_line" in (doors[arm.door].cold_cache for arm in (turn.arm, self._reference)):
            return None
        if not self._retrieves(turn.arm):
            return self._talks[turn.conversation].documents, ()
        if self._targets.library is None or turn.turn:
            return None
        return self._targets.library.used(turn.answer)

    def _retrieves(self, arm: Arm) -> bool:
        return arm.retrieves and self._case.retrieves

    async def _ask_again(self, turn: Turn, used: Used) -> Answer | None:
        """Ask the reference, with logprobs, up to this turn; None = it cannot be asked so."""
        key = turn.conversation, turn.turn, used
        if key not in self._again:
            self._again[key] = await self._asked(turn, used)
        return self._again[key]

    async def _asked(self, turn: Turn, used: Used) -> Answer | None:
        front, late = used
        if late and self._reference.door != "bare":
            return None
        talk = replace(self._talks[turn.conversation], documents=front)
        ask = replace(self._ask(self._case, talk, self._reference), logprobs=True)
        answer: Answer | None = None
        with suppress(*UNREACHABLE):
            async with self._targets.doors[self._reference.door].conversation(ask) as asked:
                for question in talk.questions[: turn.turn + 1]:
                    answer = await asked.turn(Said(question, late_documents=late))
                    if answer.outcome != "completed":
                        return None
        return answer


def _same_documents(one: Answer, other: Answer) -> bool:
    return one.documents_used is not None and one.documents_used == other.documents_used


def _same_prompt(one: Answer, other: Answer) -> bool:
    """Whether the prompts may be the same, by their length; unknown lengths count as equal."""
    if one.prompt_tokens is None or other.prompt_tokens is None:
        return True
    return one.prompt_tokens == other.prompt_tokens
