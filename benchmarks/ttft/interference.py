"""A running answer alone and beside typing sessions: what speculation costs those who wait.

Typists begin one after the other before the foreground stream does and never commit.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from ..figures.answer import Answer, reported
from ..harness.client import Client
from ..harness.doors import ChatDoor
from ..harness.wire import Ask, Said
from ..workload.conversations import Conversation, turn_input
from ..workload.plan import LIVE, Case, ExpertCase
from ..workload.typing_model import Key, cadence
from .run import TtftRun

_STREAMS, _TYPISTS = 1000, 2000
"""First conversation numbers, far from those of the blocks."""


@dataclass(frozen=True, slots=True)
class Foreground:
    """One foreground stream, alone or beside typing sessions."""

    pair: int
    answer: Answer
    typists: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class InterferenceResult:
    """What one expert's streams showed."""

    expert: ExpertCase
    foregrounds: list[Foreground] = field(default_factory=list)


class Interference:
    """Performs the interference part of a plan on LiveMind's own doors."""

    def __init__(self, run: TtftRun, client: Client) -> None:
        self.results: list[InterferenceResult] = []
        self._run = run
        self._client = client
        self._rng = random.Random(run.plan.seed)

    async def run(self) -> None:
        """Stream alone and beside typists, in an order drawn from the seed."""
        plan = self._run.plan
        for expert in plan.experts:
            case = next(case for case in plan.cases() if case.expert == expert)
            result = InterferenceResult(expert)
            self.results.append(result)
            for pair in range(plan.interference_pairs):
                for typists in self._rng.sample([0, plan.typists], 2):
                    await asyncio.sleep(2 * plan.settle_s)
                    result.foregrounds.append(await self._foreground(case, pair, typists))
                    self._run.step(f"{expert.name}: foreground stream, {typists} typing")

    async def _foreground(self, case: Case, pair: int, typists: int) -> Foreground:
        plan, run = self._run.plan, self._run
        seen = tuple(Answer() for _ in range(typists))
        async with asyncio.TaskGroup() as group:
            tasks = []
            for number, answer in enumerate(seen):
                talk = run.conversation(case, _TYPISTS + pair * 100 + number)
                keys = cadence(case.cadence).keys(talk.questions[0], self._rng)
                ask = run.ask(case, talk, LIVE)
                tasks.append(group.create_task(self._type(ask, keys, answer)))
                await asyncio.sleep(plan.typists_lead_s / typists)
            question = turn_input(case.expert.workload, plan.seed, _STREAMS + pair, 0).question
            talk = Conversation((question,), max_tokens=case.expert.foreground_tokens)
            async with ChatDoor(self._client).conversation(run.ask(case, talk)) as asked:
                answer = await asked.turn(Said(question))
            for task in tasks:
                task.cancel()
        return Foreground(pair, answer, seen)

    async def _type(self, ask: Ask, keys: tuple[Key, ...], answer: Answer) -> None:
        async with reported(answer), self._client.live(ask) as talk:
            await talk.type_only(keys, answer)
