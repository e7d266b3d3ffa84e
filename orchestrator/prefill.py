"""Speculative prefill of one expert for one session, slice by slice towards a moving target.

Owns how far the expert's cache has come. Slices end on KV block borders, because only full blocks
are reused, and run one at a time through the gate.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from ..backends.base import Expert, PrefillResult, Priority, TokenPrompt
from ..backends.errors import ExpertError
from .shared import Shared
from .turn import Prefill

log = logging.getLogger(__name__)

Report = Callable[[str, int, int, int, PrefillResult], None]


class PrefillLane:
    """Works towards the newest target of one expert."""

    def __init__(self, expert: str, shared: Shared) -> None:
        self.expert = expert
        self.task: asyncio.Task[None] | None = None
        self._shared = shared
        self._target: Prefill | None = None
        self._salt: str | None = None
        self._ready: tuple[int, ...] = ()
        self._served: Prefill | None = None

    def aim(self, target: Prefill, cache_salt: str | None) -> None:
        """Set the newest target; what it shares with the older ones stays ready."""
        self._target, self._salt = target, cache_salt

    async def run(self, report: Report) -> None:
        """Prefill until the newest target is ready, the expert fails or the task is cancelled.

        An expert that is not loaded is woken; ``run`` is called again once it is ready.
        """
        while self._target is not self._served:
            target = self._target
            assert target is not None
            if self._shared.pool.ready(self.expert) is None:
                self._shared.pool.wake(self.expert)
                return
            try:
                async with self._shared.pool.acquire(self.expert) as expert:
                    await self._towards(target, expert, report)
            except ExpertError:
                return  # the answer will say so, if one is wanted
            except Exception:
                log.exception("speculative prefill on %s failed", self.expert)
                return
            self._served = target

    async def _towards(self, target: Prefill, expert: Expert, report: Report) -> None:
        if not expert.capabilities.open_turn_prefill:
            return
        prompt = replace(expert.render(target.messages, open_turn=True), cache_salt=self._salt)
        block = expert.capabilities.prefix_block_tokens
        total = prompt.num_tokens // block * block
        if not prompt.token_ids:
            await self._whole(prompt, target, expert, report)
            return
        ready = _common(self._ready, prompt.token_ids) // block * block
        self._ready = prompt.token_ids[:ready]
        while ready < total and self._target is target:
            async with self._shared.gate.slice(expert.capabilities.compute_group) as tokens:
                end = min(total, ready + max(block, tokens // block * block))
                result = await expert.prefill(prompt.slice(end), priority=Priority.SPECULATIVE)
            self._ready = prompt.token_ids[:end]
            ready = end
            self._shared.rates[self.expert].saw_prefill(result)
            report(self.expert, target.revision, ready, total, result)

    async def _whole(
        self, prompt: TokenPrompt, target: Prefill, expert: Expert, report: Report
    ) -> None:
        """Without local tokens the server is sent the text as it is."""
        async with self._shared.gate.slice(expert.capabilities.compute_group):
            result = await expert.prefill(prompt, priority=Priority.SPECULATIVE)
        report(self.expert, target.revision, prompt.num_tokens, prompt.num_tokens, result)


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Return the length of the common prefix."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((n for n, (x, y) in pairs if x != y), min(len(a), len(b)))
