"""The run of ``livemind bench ttft``: performs a plan, block by block, and keeps what it saw.

Every conversation of an arm has a cache salt of its own, so that every arm begins with a cold
prefix cache. Results are kept as they come: an interrupted run still has them.
"""

from __future__ import annotations

import asyncio
import gc
import random
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from ..bench import BenchmarkFailed
from ..figures.answer import Answer
from ..figures.turns import BlockResult, CaseResult, Turn
from ..harness.doors import UNREACHABLE, Door
from ..harness.loop_watch import no_collection
from ..harness.targets import Targets
from ..harness.wire import AUTO, Ask, Said
from ..workload.arms import Arm
from ..workload.conversations import FILLER, Conversation, conversation
from ..workload.plan import REQUEST_AT_END, Block, Case, Plan
from ..workload.typing_model import TypingModel, cadence
from .verdicts import Verdicts

FIRST_GUESS_CHARS_PER_TOKEN = 4.0
WARM_UP_CPM = 6000.0
WARM_UP_PAUSE_S = 1.5


class TtftRun:
    """Performs a plan; ``results`` grows while it runs.

    ``say`` gets a line about what is happening (None = still the same) and how many of
    ``plan.steps()`` are done.
    """

    def __init__(self, plan: Plan, say: Callable[[str | None, int], None]) -> None:
        self.plan = plan
        self.results = {case: CaseResult(case) for case in plan.cases()}
        self.done = 0
        self._say = say
        self._rng = random.Random(plan.seed)
        self._run_id = secrets.token_hex(8)  # a server that ran before is cold for this run too
        self._salts = 0
        self._chars_per_token: dict[str, float] = {}

    async def run(self, targets: Targets, cases: Iterable[Case] | None = None) -> None:
        """Ask everything about these cases; None = about all of the plan's.

        Raises:
            BenchmarkFailed: an expert does not answer its warm-up.
        """
        cases = list(self.results if cases is None else cases)
        for case in cases:
            await self._warm_up(targets, case)
        with no_collection():
            for block in self.plan.blocks:
                for case in cases:
                    await self._block(targets, case, block)
                    gc.collect()

    def ask(self, case: Case, talk: Conversation, arm: Arm | None = None) -> Ask:
        """Return how a conversation is asked in an arm (None = plainly), under a fresh salt."""
        self._salts += 1
        arm = arm or Arm("", "", "chat")
        retrieval = arm.retrieves and case.retrieves
        return Ask(
            AUTO if arm.routed else case.expert.expert_id,
            f"{self._run_id}-{self._salts}",
            talk.max_tokens or self.plan.max_tokens,
            ignore_eos=case.expert.random_weights,
            instructions=talk.instructions,
            documents=() if retrieval else talk.documents,
            retrieval=retrieval,
            consistency=arm.consistency,
            speculation=arm.speculation,
            consensus=arm.consensus,
            transcript=case.recorded,
        )

    def conversation(self, case: Case, index: int) -> Conversation:
        """Return a conversation of the case's workload."""
        turns, recording = self.plan.turns_per_conversation, self.plan.recording(case.cadence)
        if recording is not None and not case.documents_tokens:
            return recording.conversation(index, turns)
        if self.plan.prompts is not None:
            return self.plan.prompts[index % len(self.plan.prompts)]
        known = self._chars_per_token.get(case.expert.expert_id, FIRST_GUESS_CHARS_PER_TOKEN)
        chars = int(case.documents_tokens * known)
        kind = case.expert.workload if recording is None else FILLER
        made = conversation(kind, self.plan.seed, index, chars, turns)
        if recording is None:
            return made
        return replace(recording.conversation(index, turns), documents=made.documents)

    def step(self, text: str | None = None) -> None:
        """Show that another step is done, and what comes next."""
        self.done += 1
        self._say(text, self.done)

    # ---- one block

    async def _block(self, targets: Targets, case: Case, block: Block) -> None:
        result = BlockResult(block)
        self.results[case].blocks.append(result)
        numbers = self.plan.asked(case, block)
        if not numbers:
            return
        talks = {n: await self._with_documents(targets, case, n) for n in numbers}
        starts_s = self.plan.arrivals.starts_s(len(talks), self._rng)
        for arm in self._rng.sample(block.arms, len(block.arms)):
            if not case.asks(arm):
                continue
            self._say(f"{case.name}: block {block.index + 1}, {arm.id}", self.done)
            await asyncio.sleep(self.plan.settle_s)
            began = asyncio.get_running_loop().time()
            await self._arm(targets, case, arm, talks, starts_s, result)
            result.spans_s[arm.id] = asyncio.get_running_loop().time() - began
        if self.plan.reference is not None:
            verdicts = Verdicts(self.ask, self.plan.reference, targets, case, talks)
            await verdicts.compare(result)

    async def _with_documents(self, targets: Targets, case: Case, index: int) -> Conversation:
        """Return a conversation; with a library its documents are what retrieval finds."""
        talk = self.conversation(case, index)
        if targets.library is None or not case.documents_tokens:
            return talk
        return replace(talk, documents=await targets.library.found(talk.questions[0]))

    async def _arm(
        self,
        targets: Targets,
        case: Case,
        arm: Arm,
        talks: Mapping[int, Conversation],
        starts_s: tuple[float, ...],
        result: BlockResult,
    ) -> None:
        """Ask every conversation of a block in one arm, as many at a time as users are there."""
        door, plan = targets.doors[arm.door], self.plan
        waiting = list(zip(talks, starts_s, strict=True))[::-1]
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def user(number: int) -> None:
            while waiting:
                index, start_s = waiting.pop()
                await asyncio.sleep(max(0.0, began + start_s - loop.time()))
                await self._converse(door, case, arm, index, talks[index], number, result)
                self.step()

        users = plan.arrivals.concurrency if plan.arrivals.kind == "closed" else len(waiting)
        async with asyncio.TaskGroup() as group:
            for number in range(min(users, len(waiting))):
                group.create_task(user(number))

    async def _converse(
        self,
        door: Door,
        case: Case,
        arm: Arm,
        index: int,
        talk: Conversation,
        user: int,
        result: BlockResult,
    ) -> None:
        """Ask one conversation; it ends early with a turn that is not completed."""
        try:
            async with door.conversation(self.ask(case, talk, arm)) as asked:
                for number, question in enumerate(talk.questions):
                    said = self._said(case, arm, index, number, question)
                    answer = await asked.turn(said)
                    result.turns.append(
                        Turn(arm, index, number, user, question, said.think_s, answer)
                    )
                    if answer.outcome != "completed":
                        return
        except UNREACHABLE as exc:
            lost = Answer(outcome="error", error=f"{type(exc).__name__}: {exc}")
            result.turns.append(Turn(arm, index, 0, user, talk.questions[0], 0.0, lost))

    def _said(self, case: Case, arm: Arm, index: int, number: int, question: str) -> Said:
        """Return how the user enters a question: the same keys at the same times in every arm."""
        if arm.pasted:
            return Said(question)
        overlap, recording = self.plan.arrivals.overlap, self.plan.recording(case.cadence)
        if recording is not None:
            spoken = recording.utterance(index * self.plan.turns_per_conversation + number)
            silence_s = spoken.silence_s if arm.pause_s is None else arm.pause_s
            return Said(question, spoken.partials, silence_s, paced=overlap)
        way = cadence(case.cadence)
        rng = random.Random(f"{self.plan.seed}|{case.name}|{index}|{number}|keys")
        keys = way.keys(question, rng)
        think_s = way.think_s(rng) if arm.pause_s is None else arm.pause_s
        return Said(question, keys, think_s, paced=overlap)

    # ---- before the first block

    async def _warm_up(self, targets: Targets, case: Case) -> None:
        """Load the expert, learn its characters per token, run every code path once; untimed."""
        self._say(f"{case.name}: warm-up", self.done)
        reference = self.plan.reference or next(iter(self.plan.arms), REQUEST_AT_END)
        door = targets.doors[reference.door]
        recording = self.plan.recording(case.cadence)
        spoken = () if recording is None else recording.utterances  # answered by several experts
        talk = self.conversation(case, -1)
        for question in (talk.questions[0], *dict.fromkeys(one.text for one in spoken)):
            async with door.conversation(self.ask(case, talk, reference)) as asked:
                answer = await asked.turn(Said(question))
            if answer.outcome != "completed":
                raise BenchmarkFailed(f"{case.expert.expert_id}: {answer.outcome}: {answer.error}")
        if answer.prompt_tokens and case.documents_tokens:
            sent = sum(map(len, (talk.questions[0], *talk.documents)))
            self._chars_per_token[case.expert.expert_id] = sent / answer.prompt_tokens
        talk = await self._with_documents(targets, case, -2)
        for arm in filter(case.asks, self.plan.arms):
            keys = TypingModel(WARM_UP_CPM).keys(talk.questions[0], self._rng) if arm.typed else ()
            said = Said(talk.questions[0], keys, WARM_UP_PAUSE_S if arm.typed else 0.0)
            with suppress(*UNREACHABLE):  # the first block reports it
                async with targets.doors[arm.door].conversation(self.ask(case, talk, arm)) as asked:
                    await asked.turn(said)
