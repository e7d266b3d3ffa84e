"""A fast expert drafts ahead of the expert whose answer it is, and follows where that goes.

Owns the decision whether that pays, and the drafting itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from msgspec.structs import replace

from ...backends.base import Expert, GenerationParams
from ...backends.drafts import DraftFeed
from ...backends.errors import ExpertError
from ...backends.pool.pool import Pool
from ..rates import DecodeClock, ExpertRates
from .task import Task, now_s, request

# Drafting beside a decoding expert takes processor time from it.
WORTHWHILE_SPEED = 0.4
WORTHWHILE_ACCEPTANCE = 0.5
MEASURED_ANSWERS = 3
OVERLAP_TOKENS = 8
FREE_RESTARTS = 2
ACCEPTED_PER_RESTART = 8
SMOOTHING = 0.3


@dataclass(slots=True)
class Acceptance:
    """The share of a fast expert's drafted tokens that another expert takes over: its mean.

    ``answers`` counts what it was learned from.
    """

    share: float | None = None
    answers: int = 0

    def saw(self, accepted: int, rejected: int) -> None:
        """Learn from one answer."""
        if accepted + rejected:
            self.answers += 1
            share = accepted / (accepted + rejected)
            self.share = (
                share if self.share is None else (1 - SMOOTHING) * self.share + SMOOTHING * share
            )


def pays(fast: ExpertRates, strong: ExpertRates, acceptance: Acceptance, *, hidden: bool) -> bool:
    """Whether the fast expert should draft beside the strong one.

    While somebody waits only what was measured counts; in hiding it is tried to be measured.
    """
    if fast.decode_ms is None or strong.decode_ms is None:
        return hidden
    if fast.decode_ms > WORTHWHILE_SPEED * strong.decode_ms:
        return False
    if acceptance.share is None or acceptance.answers < MEASURED_ANSWERS:
        return hidden
    return acceptance.share >= WORTHWHILE_ACCEPTANCE


class Follower:
    """Writes a feed for an answer that others decode, and begins anew where it was wrong."""

    def __init__(
        self, task: Task, expert_id: str, compute_group: str, pool: Pool, rates: ExpertRates
    ) -> None:
        self.feed = DraftFeed()
        self.expert_id = expert_id
        self.compute_group = compute_group
        self._task = task
        self._pool = pool
        self._rates = rates
        self._answer: list[int] = []
        self._drafted: list[int] = []  # since the last beginning, at ``_base`` of the answer
        self._base = 0
        self._accepted = self._rejected = 0
        self._lost = asyncio.Event()

    def saw(self, tokens: Sequence[int]) -> None:
        """Tell how the answer went on."""
        for token in tokens:
            at = len(self._answer) - self._base
            self._answer.append(token)
            if at < len(self._drafted) and self._drafted[at] == token:
                self._accepted += 1
            elif at < len(self._drafted):
                self._is_lost()

    def accepted_and_rejected(self) -> tuple[int, int]:
        """Return the drafted tokens that came true, and those that something else stands for."""
        return self._accepted, self._rejected

    async def run(self) -> None:
        """Draft until it gains nothing any more; then close the feed."""
        restarts = 0
        try:
            while restarts <= FREE_RESTARTS + self._accepted // ACCEPTED_PER_RESTART:
                async with self._pool.acquire(self.expert_id) as expert:
                    await self._draft(expert)
                await self._lost.wait()
                restarts += 1
        except ExpertError as error:
            self._task.report.abstained[self.expert_id] = error.message
        finally:
            self.feed.close()

    async def _draft(self, expert: Expert) -> None:
        self._lost.clear()
        self._base, self._drafted = len(self._answer), []
        self.feed.push(self._answer[-OVERLAP_TOKENS:])
        prompt = await self._task.rendered(expert)
        ids = prompt.token_ids + self._task.begun + tuple(self._answer)
        prompt = replace(prompt, token_ids=ids, num_tokens=len(ids))
        limit = self._task.params.max_tokens
        params = GenerationParams(
            max_tokens=None if limit is None else max(1, limit - self._base),
            temperature=0.0,
            stop=self._task.params.stop,
            ignore_eos=self._task.params.ignore_eos,
        )
        stream = request(self._task, expert, prompt, params)
        decode = DecodeClock(self._rates)
        async with aclosing(stream):
            async for chunk in stream:
                decode.saw(len(chunk.token_ids), now_s())
                self._task.report.saw_aside(self.expert_id, len(chunk.token_ids))
                self._accept_late(chunk.token_ids)
                self.feed.push(chunk.token_ids)
                if self._lost.is_set():
                    return

    def _accept_late(self, tokens: Sequence[int]) -> None:
        """Compare with what the answer has become in the meantime."""
        for token in tokens:
            at = self._base + len(self._drafted)
            self._drafted.append(token)
            if at < len(self._answer) and self._answer[at] != token:
                self._is_lost()

    def _is_lost(self) -> None:
        self._rejected += not self._lost.is_set()
        self._lost.set()
