"""Many live sessions at a time: where time to first token bends, with speculation and without.

A rung of the ladder is a number of sessions. On each rung the same users type the same questions at
the same times, once with speculation off and once on, several times in turns. Closed loop: a user
begins the next conversation when the last one is answered. Every conversation is cold.
"""

from __future__ import annotations

import asyncio
import gc
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from ..bench import BenchmarkFailed
from ..figures.answer import Answer, Json
from ..figures.stats import quantile
from ..harness.client import Client
from ..harness.doors import UNREACHABLE
from ..harness.loop_watch import no_collection
from ..harness.wire import Ask, Said
from ..workload.conversations import FILLER, Conversation, conversation
from ..workload.typing_model import Key, TypingModel
from .samples import completed

Mode = Literal["on", "off"]
MODES: tuple[Mode, ...] = ("off", "on")
SPECULATION: dict[Mode, Literal["off", "draft"]] = {"off": "off", "on": "draft"}


@dataclass(frozen=True, slots=True)
class LadderPlan:
    """What to ask.

    Attributes:
        expert: the model's name; ``ignore_eos`` for random weights.
        rungs: numbers of sessions, ascending.
        rounds: how often each mode is run on a rung.
        turns: conversations per session and run, each of one turn.
        bend_factor: a mode bends at the first rung whose p95 is this many times the first one's.
        stop_factor: the ladder ends with the rung where that holds for this factor without
            speculation, or with a failure.
    """

    expert: str
    rungs: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    rounds: int = 2
    turns: int = 3
    documents_tokens: int = 1500
    max_tokens: int = 16
    chars_per_minute: float = 400.0
    bend_factor: float = 2.0
    stop_factor: float = 8.0
    ignore_eos: bool = True
    seed: int = 1

    def steps(self) -> int:
        """Return how many conversations the whole ladder has."""
        return sum(self.rungs) * self.rounds * len(MODES) * self.turns


@dataclass(frozen=True, slots=True)
class Turn:
    """One conversation as it was asked."""

    sessions: int
    round: int
    mode: Mode
    user: int
    turn: int
    answer: Answer

    @property
    def place(self) -> tuple[int, int, int, int]:
        """The same in both modes."""
        return self.sessions, self.round, self.user, self.turn

    def row(self) -> Json:
        """Return it as the report has it."""
        answer = self.answer
        ledger = answer.ledger or {}
        return {
            "sessions": self.sessions,
            "round": self.round,
            "mode": self.mode,
            "user": self.user,
            "turn": self.turn,
            "outcome": answer.outcome,
            "error": answer.error,
            "ttft_ms": answer.ttft_ms,
            "e2e_ms": answer.e2e_ms,
            "server_ttft_ms": answer.server_ttft_ms,
            "prompt_tokens": answer.prompt_tokens,
            "cached_tokens": answer.cached_tokens,
            "completion_tokens": answer.completion_tokens,
            "draft_adopted": answer.draft_adopted,
            "ledger": ledger,
            "commit_late_ms": answer.late_ms[-1] if answer.late_ms else None,
        }


@dataclass(slots=True)
class LadderResult:
    """What was asked so far; ``spans_s`` is how long a run took, by rung, round and mode."""

    plan: LadderPlan
    chars_per_token: float = 0.0
    turns: list[Turn] = field(default_factory=list)
    spans_s: dict[tuple[int, int, Mode], float] = field(default_factory=dict)
    stopped_by: str | None = None

    def rows(self) -> list[Json]:
        """Return every turn as the report has it."""
        return [one.row() for one in self.turns]


class Ladder:
    """Climbs; ``result`` grows while it does.

    Args:
        say: gets what is happening (None = still the same) and how many conversations are done.
    """

    def __init__(
        self, client: Client, result: LadderResult, say: Callable[[str | None, int], None]
    ) -> None:
        self._client = client
        self._result = result
        self._plan = result.plan
        self._say = say
        self._run_id = secrets.token_hex(8)  # a server that ran before is cold for this run too
        self._salts = 0

    async def climb(self) -> None:
        """Run every rung until the stop rule holds.

        Raises:
            BenchmarkFailed: the expert does not answer at all.
        """
        await self._warm_up()
        with no_collection():
            for rung in self._plan.rungs:
                await self._rung(rung)
                gc.collect()
                if (reason := self._reason_to_stop(rung)) is not None:
                    self._result.stopped_by = reason
                    return

    async def _rung(self, sessions: int) -> None:
        rng = random.Random(f"{self._plan.seed}|{sessions}|order")
        first = rng.sample(MODES, len(MODES))
        for number in range(self._plan.rounds):
            for mode in first if number % 2 == 0 else first[::-1]:
                self._say(
                    f"{sessions} sessions, round {number + 1}, speculation {mode}", self._done
                )
                loop = asyncio.get_running_loop()
                began_s = loop.time()
                async with asyncio.TaskGroup() as group:
                    for user in range(sessions):
                        group.create_task(self._user(sessions, number, mode, user))
                self._result.spans_s[sessions, number, mode] = loop.time() - began_s

    @property
    def _done(self) -> int:
        return len(self._result.turns)

    async def _user(self, sessions: int, number: int, mode: Mode, user: int) -> None:
        """Type, commit, read, again; keys and waits are the same in both modes."""
        plan = self._plan
        rng = random.Random(f"{plan.seed}|{sessions}|{number}|{user}")
        typing = TypingModel(plan.chars_per_minute)
        for turn in range(plan.turns):
            index = ((sessions * 100 + number) * 1000 + user) * 100 + turn
            talk = self._conversation(index)
            keys, think_s = typing.keys(talk.questions[0], rng), typing.think_s(rng)
            if turn == 0:  # users do not begin all at once
                await asyncio.sleep(rng.uniform(0.0, keys[-1].at_s))
            answer = await self._ask(talk, mode, keys, think_s)
            self._result.turns.append(Turn(sessions, number, mode, user, turn, answer))
            self._say(None, self._done)

    async def _ask(
        self, talk: Conversation, mode: Mode, keys: tuple[Key, ...], think_s: float
    ) -> Answer:
        self._salts += 1
        ask = Ask(
            self._plan.expert,
            f"{self._run_id}-{self._salts}",
            self._plan.max_tokens,
            ignore_eos=self._plan.ignore_eos,
            documents=talk.documents,
            speculation=SPECULATION[mode],
        )
        try:
            async with self._client.live(ask) as live:
                return await live.turn(Said(talk.questions[0], keys, think_s))
        except UNREACHABLE as exc:
            return Answer(outcome="error", error=f"{type(exc).__name__}: {exc}")

    def _conversation(self, index: int) -> Conversation:
        chars = int(self._plan.documents_tokens * self._result.chars_per_token)
        return conversation(FILLER, self._plan.seed, index, chars, 1)

    async def _warm_up(self) -> None:
        """Load the expert, learn its characters per token, run both modes once; untimed."""
        self._say("warm-up", 0)
        typing, rng = TypingModel(6000.0), random.Random(self._plan.seed)
        self._result.chars_per_token = 4.0
        for number, mode in enumerate(MODES):
            talk = self._conversation(-1 - number)
            keys = typing.keys(talk.questions[0], rng)
            answer = await self._ask(talk, mode, keys, 0.5)
            if answer.outcome != "completed":
                raise BenchmarkFailed(f"{self._plan.expert}: {answer.outcome}: {answer.error}")
            if answer.prompt_tokens:
                sent = sum(map(len, (talk.questions[0], *talk.documents)))
                self._result.chars_per_token = sent / answer.prompt_tokens

    def _reason_to_stop(self, rung: int) -> str | None:
        failed = [one for one in self._result.turns if one.answer.outcome != "completed"]
        if failed:
            return f"{len(failed)} turns failed at {rung} sessions"
        first, last = self._off_p95(self._plan.rungs[0]), self._off_p95(rung)
        if first is not None and last is not None and last > self._plan.stop_factor * first:
            return f"p95 {last / first:.1f} x that of {self._plan.rungs[0]} at {rung} sessions"
        return None

    def _off_p95(self, rung: int) -> float | None:
        rows = (
            row for row in self._result.rows() if (row["sessions"], row["mode"]) == (rung, "off")
        )
        return quantile([row["ttft_ms"] for row in completed(rows)], 0.95)
