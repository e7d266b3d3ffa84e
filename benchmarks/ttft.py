"""The run of ``livemind bench ttft``: which turns are asked, in which arm, in which order.

A block asks one turn in every arm with the same documents and question, in an order drawn from the
seed, each time under a fresh cache salt, so that every arm begins with a cold prefix cache. Results
are kept as they come: an interrupted run still has them.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from .answer import Answer
from .bench import BenchmarkFailed
from .client import Client
from .identity import Explanation
from .typing_model import TypingModel
from .wire import Ask
from .workload import TurnInput, turn_input

BASE, LIVE, PREFILL, DRAFT, PASTE = "request-at-end", "live", "prefill", "draft", "paste"
INTERFERENCE = "interference"
ARMS = (LIVE, PREFILL, DRAFT, PASTE)
CASES = (*ARMS, INTERFERENCE)
FIRST_GUESS_CHARS_PER_TOKEN = 4.0


@dataclass(frozen=True, slots=True)
class ExpertCase:
    """One expert under test.

    Attributes:
        expert_id: as the server names it.
        workload: ``workload.FILLER`` or a domain of the embedded experts.
        label: what the report calls it.
        suffix: of its summary keys.
        random_weights: answers mean nothing; end-of-sequence is ignored.
        foreground_tokens: length of the foreground stream in the interference case.
    """

    expert_id: str
    workload: str
    label: str
    suffix: str
    random_weights: bool
    foreground_tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. Times in seconds, lengths in tokens."""

    experts: tuple[ExpertCase, ...]
    cases: tuple[str, ...] = CASES
    turns: int = 5
    seed: int = 1
    typing: TypingModel = field(default_factory=TypingModel)
    max_tokens: int = 32
    documents_tokens: int = 1500
    draft_pause_s: float = 1.5
    settle_s: float = 0.3
    paste_blocks: int = 2
    interference_pairs: int = 3
    typists: int = 8
    typists_lead_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Block:
    """One turn in several arms, in the order of asking; ``BASE`` is the reference of the others."""

    turn: int
    answers: dict[str, Answer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Foreground:
    """One foreground stream, alone or beside typing sessions."""

    pair: int
    answer: Answer
    typists: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class ExpertResults:
    """What one expert did so far."""

    case: ExpertCase
    blocks: list[Block] = field(default_factory=list)
    foregrounds: list[Foreground] = field(default_factory=list)


class TtftRun:
    """Performs a plan against one server; ``results`` grows while it runs.

    ``say`` gets a line about what is happening and how many steps of ``steps`` are done.
    """

    def __init__(self, plan: Plan, client: Client, say: Callable[[str, int], None]) -> None:
        self.plan = plan
        self.results = [ExpertResults(case) for case in plan.experts]
        self._client = client
        self._say = say
        self._done = 0
        self._rng = random.Random(plan.seed)
        self._run_id = secrets.token_hex(8)  # a server that ran before is cold for this run too
        self._salts = 0
        self._documents_chars: dict[str, int] = {}

    @property
    def steps(self) -> int:
        """How many answers the whole plan asks for."""
        plan, per_expert = self.plan, 0
        for turn in range(plan.turns):
            per_expert += sum(len(arms) for arms in self._arms(turn))
        if INTERFERENCE in plan.cases:
            per_expert += 2 * plan.interference_pairs
        return per_expert * len(plan.experts)

    async def run(self) -> None:
        """Ask everything.

        Raises:
            BenchmarkFailed: an expert does not answer its warm-up.
        """
        for results in self.results:
            await self._warm_up(results.case)
        for turn in range(self.plan.turns):
            for results in self.results:
                for number, arms in enumerate(self._arms(turn)):
                    await self._block(results, turn * 10 + number, arms)
        if INTERFERENCE in self.plan.cases:
            for results in self.results:
                await self._interference(results)

    def _arms(self, turn: int) -> list[list[str]]:
        """Return the blocks of one turn: typed arms together, each paste with its own reference.

        ``LIVE`` is in every turn; ``DRAFT`` (a pause before Enter, so that a draft is complete) and
        ``PREFILL`` (no drafts at all) take turns, because typing takes most of the time.
        """
        cases = self.plan.cases
        sometimes = DRAFT if turn % 2 == 0 else PREFILL
        typed = [arm for arm in (LIVE, sometimes) if arm in cases]
        blocks = [[BASE, *typed]] if typed else []
        if PASTE in cases:
            blocks += [[BASE, PASTE] for _ in range(self.plan.paste_blocks)]
        return blocks

    async def _warm_up(self, case: ExpertCase) -> None:
        """Load the expert, learn its characters per token, run every code path once; untimed."""
        self._say(f"{case.label}: warm-up", 0)
        chars = int(self.plan.documents_tokens * FIRST_GUESS_CHARS_PER_TOKEN)
        turn = turn_input(case.workload, self.plan.seed, -1, chars)
        answer = await self._client.request_at_end(self._ask(case, turn))
        if answer.outcome != "completed":
            raise BenchmarkFailed(f"{case.expert_id}: {answer.outcome}: {answer.error}")
        if not answer.prompt_tokens:
            raise BenchmarkFailed(f"{case.expert_id}: the answer's usage has no prompt_tokens")
        sent = len(turn.question) + sum(map(len, turn.documents))
        per_token = sent / answer.prompt_tokens
        self._documents_chars[case.expert_id] = int(self.plan.documents_tokens * per_token)
        turn = self._turn(case, -2)
        keys = TypingModel(6000).keys(turn.question, self._rng)
        await self._client.request_at_end(self._ask(case, turn))
        await self._client.live(self._ask(case, turn), keys, self.plan.draft_pause_s)

    async def _block(self, results: ExpertResults, index: int, arms: list[str]) -> None:
        turn = self._turn(results.case, index)
        block = Block(index)
        results.blocks.append(block)
        for arm in self._rng.sample(arms, len(arms)):
            self._say(f"{results.case.label}: turn {index // 10 + 1}, {arm}", self._done)
            await asyncio.sleep(self.plan.settle_s)
            block.answers[arm] = await self._answer(results.case, turn, arm)
            self._done += 1
        base = block.answers[BASE]
        if any(answer.text != base.text for answer in block.answers.values()):
            ask = replace(self._ask(results.case, turn), logprobs=True)
            again = await self._client.request_at_end(ask)
            base.explanation = Explanation(again.text, again.tokens)

    async def _answer(self, case: ExpertCase, turn: TurnInput, arm: str) -> Answer:
        ask = replace(self._ask(case, turn), drafts=arm != PREFILL)
        if arm == BASE:
            return await self._client.request_at_end(ask)
        if arm == PASTE:
            return await self._client.live(ask, (), 0.0)
        typing, rng = self.plan.typing, self._rng
        pause_s = self.plan.draft_pause_s if arm == DRAFT else typing.think_s(rng)
        return await self._client.live(ask, typing.keys(turn.question, rng), pause_s)

    async def _interference(self, results: ExpertResults) -> None:
        for pair in range(self.plan.interference_pairs):
            for typists in self._rng.sample([0, self.plan.typists], 2):
                what = f"foreground stream, {typists} typing"
                self._say(f"{results.case.label}: {what}, pair {pair + 1}", self._done)
                await asyncio.sleep(2 * self.plan.settle_s)
                results.foregrounds.append(await self._foreground(results.case, pair, typists))
                self._done += 1

    async def _foreground(self, case: ExpertCase, pair: int, typists: int) -> Foreground:
        """Stream a long answer; typists begin one after the other before it, none ever commits."""
        question = turn_input(case.workload, self.plan.seed, 1000 + pair, 0).question
        seen = tuple(Answer() for _ in range(typists))
        async with asyncio.TaskGroup() as group:
            tasks = []
            for number, answer in enumerate(seen):
                turn = self._turn(case, 2000 + pair * 100 + number)
                keys = self.plan.typing.keys(turn.question, self._rng)
                typing = self._client.type_only(self._ask(case, turn), keys, answer)
                tasks.append(group.create_task(typing))
                await asyncio.sleep(self.plan.typists_lead_s / typists)
            ask = self._ask(case, TurnInput(question, ()), case.foreground_tokens)
            answer = await self._client.request_at_end(ask)
            for task in tasks:
                task.cancel()
        return Foreground(pair, answer, seen)

    def _turn(self, case: ExpertCase, index: int) -> TurnInput:
        chars = self._documents_chars[case.expert_id]
        return turn_input(case.workload, self.plan.seed, index, chars)

    def _ask(self, case: ExpertCase, turn: TurnInput, foreground_tokens: int | None = None) -> Ask:
        self._salts += 1
        max_tokens = foreground_tokens or self.plan.max_tokens
        ignore_eos = case.random_weights or foreground_tokens is not None
        return Ask(case.expert_id, turn, f"{self._run_id}-{self._salts}", max_tokens, ignore_eos)
