"""Asks one question one way through the SDK, with what came of it on the caller's clock."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Literal

from msgspec import structs

from ...backends.base import GenerationParams, TokenLogprob
from ...orchestrator.consensus.options import Consensus
from ...orchestrator.errors import LiveMindError
from ...orchestrator.events import ConsensusRecord, ResponseDone, ResponseTextDelta
from ...orchestrator.live_mind import LiveMind
from ..figures.identity import TokenChoice
from ..workload.typing_model import Key
from .questions import Question

MAX_TOKENS = 48
GREEDY = GenerationParams(max_tokens=MAX_TOKENS, temperature=0.0)
FIRST = Consensus("first")


@dataclass(frozen=True, slots=True)
class Way:
    """How a question is asked.

    Attributes:
        model: the expert it is routed to.
        keys: what is typed before the commit, which always sends the whole question.
        think_s: between the last key and the commit.
    """

    model: str
    consensus: Consensus = FIRST
    params: GenerationParams = GREEDY
    speculation: Literal["off", "prefill", "draft"] = "off"
    keys: tuple[Key, ...] = ()
    think_s: float = 0.0


@dataclass(slots=True)
class Asked:
    """One turn; None = did not happen. Times are milliseconds from the commit."""

    outcome: str = "incomplete"
    error: str | None = None
    text: str = ""
    logprobs: list[TokenChoice] = field(default_factory=list)
    ttft_ms: float | None = None
    total_ms: float | None = None
    shown_tokens: int | None = None
    record: ConsensusRecord | None = None


class Asker:
    """Asks; every turn has a prefix cache of its own."""

    def __init__(self, mind: LiveMind) -> None:
        self._mind = mind
        self._run = secrets.token_hex(8)
        self._salts = itertools.count()

    async def ask(self, question: Question, way: Way) -> Asked:
        """Return what came of it; a refusal or failure of the engine is an outcome."""
        found = Asked()
        try:
            await self._ask(question, way, found)
        except LiveMindError as error:
            found.outcome, found.error = "failed", str(error)
        return found

    async def explained(self, question: Question, way: Way) -> Asked:
        """Return the same with the best tokens at each place."""
        return await self.ask(
            question, replace(way, params=structs.replace(way.params, logprobs=5))
        )

    async def _ask(self, question: Question, way: Way, found: Asked) -> None:
        async with self._mind.session(
            model=way.model,
            instructions=question.instructions,
            history=question.history,
            params=way.params,
            consensus=way.consensus,
            speculation=way.speculation,
            retrieval=False,
            cache_salt=f"{self._run}-{next(self._salts)}",
        ) as session:
            began_s = perf_counter()
            for key in way.keys:
                await _until(began_s + key.at_s)
                if key.replaces:
                    session.replace(key.text)
                else:
                    session.append(key.text)
            if way.keys:
                await _until(began_s + way.keys[-1].at_s + way.think_s)
            committed_s = perf_counter()
            async for event in session.commit(question.text):
                if isinstance(event, ResponseTextDelta):
                    if found.ttft_ms is None:
                        found.ttft_ms = (perf_counter() - committed_s) * 1000.0
                    found.logprobs += _choices(event.logprobs or (), len(found.text))
                    found.text += event.delta
                elif isinstance(event, ResponseDone):
                    found.total_ms = (perf_counter() - committed_s) * 1000.0
                    _end(found, event)


def _end(found: Asked, done: ResponseDone) -> None:
    found.outcome = done.status
    found.error = done.error.message if done.error is not None else None
    found.record = done.consensus
    if done.usage is not None:
        found.shown_tokens = done.usage.completion_tokens


def _choices(logprobs: Sequence[TokenLogprob], start: int) -> list[TokenChoice]:
    found = []
    for one in logprobs:
        top = tuple((token, logprob) for token, _, logprob in one.top)
        found.append(TokenChoice(one.token, one.logprob, top, start))
        start += len(one.token)
    return found


async def _until(at_s: float) -> None:
    await asyncio.sleep(max(0.0, at_s - perf_counter()))
