"""The way to an expert: what a request waits for before it runs.

First what its key may do at a time and per minute, where that holds up nobody else; then its turn
among the keys at the expert; then one of the answers that may be in progress at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from ..errors import Overloaded
from .asker import Asker, asker
from .budget import TokenBudget
from .queue import NOBODY, FairQueue

Used = Callable[[int], None]
"""Tells how many tokens of the answer have come."""


class _Own:
    """What one key may do."""

    def __init__(self, who: Asker) -> None:
        self.asker = who
        self.turns = None if who.max_turns is None else asyncio.Semaphore(who.max_turns)
        self.tokens = _budget(who.tokens_per_minute)
        self.speculated = _budget(who.speculated_tokens_per_minute)


class Places:
    """The queues of all experts and the limits of all keys. For one event loop.

    Args:
        slots: requests of keys that an expert runs at a time; others have no queue of their own.
        most: answers in progress at all experts together; None = any number.
        wait_s: the longest wait.
    """

    def __init__(
        self,
        slots: Mapping[str, int] | None = None,
        *,
        most: int | None = None,
        wait_s: float | None = None,
    ) -> None:
        self._queues = {name: FairQueue(count) for name, count in (slots or {}).items()}
        self._all = None if most is None else FairQueue(most)
        self._wait_s = wait_s
        self._own: dict[str, _Own] = {}
        self.waiting = 0

    @asynccontextmanager
    async def place(
        self, expert_id: str, prompt_tokens: int, answer_tokens: int = 0
    ) -> AsyncIterator[Used]:
        """Wait for what the request needs and hold it inside the block.

        Args:
            expert_id: who will answer.
            prompt_tokens: of the prompt, about.
            answer_tokens: how long the answer may get; 0 = not known.

        Raises:
            Overloaded: it did not come within the longest wait.
        """
        who = asker.get()
        own = None if who is None else self._of(who)
        tokens = None if own is None else own.tokens
        paid = 0
        async with AsyncExitStack() as stack:
            self.waiting += 1
            try:
                async with asyncio.timeout(self._wait_s):
                    if own is not None and own.turns is not None:
                        await stack.enter_async_context(own.turns)
                    if tokens is not None:
                        await tokens.pay(prompt_tokens)
                        paid = prompt_tokens
                    await self._in_turn(stack, own, expert_id, prompt_tokens + answer_tokens)
            except BaseException as exc:
                if tokens is not None:
                    tokens.use(-paid)
                if isinstance(exc, TimeoutError):
                    raise self._too_long(tokens) from None
                raise
            finally:
                self.waiting -= 1
            yield _free_of_charge if tokens is None else tokens.use

    async def _in_turn(
        self, stack: AsyncExitStack, own: _Own | None, expert_id: str, cost: int
    ) -> None:
        owner = NOBODY if own is None else own.asker.owner
        queue = None if own is None else self._queues.get(expert_id)
        for one in (queue, self._all):
            if one is not None:
                await stack.enter_async_context(one.slot(owner, cost))

    def may_speculate(self) -> bool:
        """Return whether the current key's speculation has tokens left this minute."""
        who = asker.get()
        own = None if who is None else self._of(who)
        return own is None or own.speculated is None or own.speculated.wait_s() == 0

    def speculated(self, tokens: int) -> None:
        """Count tokens that were computed for the current key before they were asked for."""
        who = asker.get()
        own = None if who is None else self._of(who)
        if own is not None and own.speculated is not None:
            own.speculated.use(tokens)

    def _of(self, who: Asker) -> _Own:
        own = self._own.get(who.owner)
        if (
            own is None or own.asker != who
        ):  # new, or its limits are others since the keys were read
            own = self._own[who.owner] = _Own(who)
        return own

    def _too_long(self, tokens: TokenBudget | None) -> Overloaded:
        owes_s = 0.0 if tokens is None else tokens.wait_s()
        if tokens is not None and owes_s > 0:
            why = f"the key has used its {tokens.per_minute} tokens a minute"
            code = "tokens_per_minute_exceeded"
        else:
            why, code = f"no place within {self._wait_s:g} s (server.turn_wait_s)", "too_many_turns"
        return Overloaded(why, code=code, retry_after_s=max(1.0, owes_s))


def _budget(per_minute: int | None) -> TokenBudget | None:
    return None if per_minute is None else TokenBudget(per_minute)


def _free_of_charge(tokens: int) -> None:
    """Nobody is charged."""
