"""Speculative prefill of one expert for one session, slice by slice towards a moving target.

Owns how far the expert's cache has come. Slices end on KV block borders, because only full blocks
are reused, and run one at a time through the gate.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from ...backends.base import Expert, Message, PrefillResult, Priority, TokenPrompt
from ...backends.errors import ExpertError
from ...backends.rendering import rendered
from ..words import common_length
from .shared import Computed, Shared
from .values import Prefill

log = logging.getLogger(__name__)

KEPT_ASIDE = 3


class SentText:
    """The newest prompt that an expert without local tokens was sent: what of the next is new.

    A session's own; what others sent is not known.
    """

    def __init__(self) -> None:
        self._text, self._tokens = "", 0
        self._where: tuple[Expert | None, str | None] = (None, None)

    def new_tokens(self, text: str, tokens: int, expert: Expert, salt: str | None) -> int:
        """Return how many of a prompt's tokens stand behind what it shares with the last one."""
        if (expert, salt) != self._where or not self._text:
            return tokens
        shared = common_length(self._text, text)
        return max(0, tokens - round(self._tokens * shared / len(self._text)))

    def keep(self, text: str, tokens: int, expert: Expert, salt: str | None) -> None:
        """Take a prompt, and perhaps the answer behind it, for cached."""
        self._text, self._tokens, self._where = text, tokens, (expert, salt)


def written(messages: Sequence[Message]) -> str:
    """Return messages as one text that only grows where the prompt does."""
    return "\0".join(f"{message.role}\0{message.content}" for message in messages)


Report = Callable[[str, int, int, int, Computed], None]


class ExpertPrefill:
    """Works towards the newest target of one expert."""

    def __init__(self, expert: str, shared: Shared, sent: SentText | None = None) -> None:
        self.expert = expert
        self._sent = sent or SentText()
        self.task: asyncio.Task[None] | None = None
        self._shared = shared
        self._target: Prefill | None = None
        self._salt: str | None = None
        self._ready: tuple[int, ...] = ()
        self._aside: tuple[tuple[int, ...], ...] = ()  # ready for other targets, newest first
        self._cache: tuple[Expert | None, str | None] = (None, None)
        self._served: Prefill | None = None
        self._first: Sequence[ExpertPrefill] = ()
        self._aimed = asyncio.Event()
        self._in_flight = 0
        self._left = 0

    def aim(
        self,
        target: Prefill,
        cache_salt: str | None,
        first: Sequence[ExpertPrefill] = (),
    ) -> None:
        """Set the newest target; what it shares with the older ones stays ready.

        The slice in flight is not in the spending that the target's budget was made from. Those
        that are ``first`` are let finish where they need the same hardware.
        """
        self._target, self._salt, self._first = target, cache_salt, first
        self._aimed.set()
        self._left = target.budget_tokens - self._in_flight

    def prime(self, expert: Expert, cache_salt: str | None, tokens: tuple[int, ...]) -> None:
        """Take for ready what an answer of this expert left in its cache, prompt and text."""
        self._cache, self._ready, self._aside = (expert, cache_salt), tokens, ()

    async def settled(self) -> None:
        """Wait until the newest target is ready or given up."""
        while self.task is not None and not self.task.done():
            await asyncio.wait([self.task])

    def missing(self, prompt: TokenPrompt) -> int:
        """Return how many of a prompt's tokens are not ready; 0 where tokens are not known here."""
        return len(prompt.token_ids) - self._reached(prompt)

    def _reached(self, prompt: TokenPrompt) -> int:
        return max(common_length(it, prompt.token_ids) for it in (self._ready, *self._aside))

    async def run(self, report: Report) -> None:
        """Prefill until the newest target is ready, the expert fails or the task is cancelled.

        An expert that is not loaded is woken; ``run`` is called again once it is ready.
        """
        try:
            while self._target is not self._served:
                target = self._target
                assert target is not None
                self._aimed.clear()
                if not await self._towards(target, report):
                    return
                if self._target is target:
                    self._served = target
        except ExpertError:
            return  # the answer will say so, if one is wanted
        except Exception as error:
            log.error("prefill on %s failed: %s", self.expert, type(error).__name__)

    async def _towards(self, target: Prefill, report: Report) -> bool:
        """Work on a target until it is ready or replaced; False when it cannot be for now."""
        expert = self._shared.pool.ready(self.expert)
        if expert is None:
            self._shared.pool.wake(self.expert)
            return False
        if not expert.capabilities.open_turn_prefill:
            return True
        prompt = await rendered(expert, target.messages, open_turn=True)
        prompt = replace(prompt, cache_salt=self._salt)
        if not prompt.token_ids:
            return await self._whole(prompt, target, expert, report)
        block = expert.capabilities.prefix_block_tokens
        total = prompt.num_tokens // block * block
        if (expert, self._salt) != self._cache:
            self._cache, self._ready, self._aside = (expert, self._salt), (), ()
        ready = self._reached(prompt) // block * block
        if self._ready and self._ready != prompt.token_ids[: len(self._ready)]:
            self._aside = (self._ready, *self._aside)[:KEPT_ASIDE]
        self._ready = prompt.token_ids[:ready]
        await self._let_first(expert)
        while ready < total and self._target is target and self._left >= block:
            affordable = min(total, ready + self._left // block * block)
            result = await self._slice(expert, prompt, ready, affordable)
            if result is None:
                return False
            if self._target is target:
                self._left -= result.computed
            ready = len(self._ready)
            computed = Computed(self._ready, result.computed, ms=result.ms)
            report(self.expert, target.revision, ready, total, computed)
        return True

    async def _let_first(self, expert: Expert) -> None:
        """Wait for those that are first on the same hardware, until there is a newer target."""
        group = expert.capabilities.compute_group
        aimed = asyncio.ensure_future(self._aimed.wait())
        try:
            for other in self._first:
                known, task = self._shared.pool.ready(other.expert), other.task
                if known is None or known.capabilities.compute_group != group or task is None:
                    continue
                await asyncio.wait({task, aimed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            aimed.cancel()

    async def _slice(
        self, expert: Expert, prompt: TokenPrompt, ready: int, total: int
    ) -> PrefillResult | None:
        """Compute one slice; None when the expert was unloaded, or its key may not, meanwhile."""
        shared = self._shared
        block, group = expert.capabilities.prefix_block_tokens, expert.capabilities.compute_group
        async with shared.gate.slice(group) as tokens:
            if shared.pool.ready(self.expert) is not expert or not shared.places.may_speculate():
                return None
            fits = shared.rates[self.expert].tokens_within(shared.slice_ms, block)
            tokens = min(tokens, fits)
            end = min(total, ready + max(block, tokens // block * block))
            quiet = not shared.gate.busy(group)
            self._in_flight = end - ready
            try:
                async with shared.pool.acquire(self.expert):
                    result = await expert.prefill(prompt.slice(end), priority=Priority.SPECULATIVE)
            finally:
                self._in_flight = 0
        self._ready = prompt.token_ids[:end]
        shared.places.speculated(result.computed)
        if quiet and not shared.gate.busy(group):
            shared.rates[self.expert].saw_prefill(result)
        return result

    async def _whole(
        self, prompt: TokenPrompt, target: Prefill, expert: Expert, report: Report
    ) -> bool:
        """Without local tokens the server is sent the text as it is."""
        text, about = written(prompt.messages), prompt.num_tokens
        needed = self._sent.new_tokens(text, about, expert, self._salt)
        if target.budget_tokens < needed or not self._shared.places.may_speculate():
            return True
        async with (
            self._shared.gate.slice(expert.capabilities.compute_group),
            self._shared.pool.acquire(self.expert),
        ):
            result = await expert.prefill(prompt, priority=Priority.SPECULATIVE)
        total, computed = result.computed + (result.cached or 0), result.computed
        if result.cached is None:
            computed = self._sent.new_tokens(text, total, expert, self._salt)
        self._sent.keep(text, total, expert, self._salt)
        self._shared.places.speculated(computed)
        reaches = total if result.cached is None else None
        piece = Computed((), computed, reaches, result.ms)
        report(self.expert, target.revision, about, about, piece)
        return True
