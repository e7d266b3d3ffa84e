"""One answer to be written, and what its author works with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from ...backends.base import Chunk, Expert, GenerationParams, Message, Priority, TokenPrompt
from .choice import Consensus
from .guess import Guess
from .report import Report

Start = Callable[[Coroutine[None, None, None]], "asyncio.Task[None]"]


class Wanted:
    """Whether somebody waits for the answer yet: after the commit. Deadlines run from there."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._begun = asyncio.Event()

    def begin(self) -> None:
        """The input was committed, now. Idempotent."""
        if self._since_s is None:
            self._since_s = now_s()
            self._begun.set()

    async def for_(self, seconds: float) -> None:
        """Return once somebody has waited for so long."""
        await self._begun.wait()
        assert self._since_s is not None
        await asyncio.sleep(self._since_s + seconds - now_s())


@dataclass(slots=True)
class Task:
    """An answer to be written.

    Attributes:
        leader: the routed expert.
        prompt: of the leader, where it goes on from a paused draft; None = as ``messages`` say.
        begun: the tokens of the answer that ``prompt`` ends with.
        guess: how the answer may go on, from an earlier draft.
        wanted: when somebody began to wait for it.
        report: to be filled by whoever writes.
    """

    leader: str
    messages: tuple[Message, ...]
    params: GenerationParams
    priority: Priority
    request_id: str
    cache_salt: str | None
    choice: Consensus
    wanted: Wanted
    report: Report
    prompt: TokenPrompt | None = None
    begun: tuple[int, ...] = ()
    guess: Guess | None = None

    def rendered(self, expert: Expert) -> TokenPrompt:
        """Return the whole prompt as this expert sees it."""
        prompt = expert.render(self.messages, open_turn=False)
        return replace(prompt, cache_salt=self.cache_salt)


def tokens_of(chunk: Chunk) -> int:
    """Return the chunk's tokens; text from a server that names no tokens counts as one."""
    return len(chunk.token_ids) or int(bool(chunk.text))


@asynccontextmanager
async def helpers() -> AsyncIterator[Start]:
    """Start tasks that end with the block: those still running then are cancelled and awaited.

    A TaskGroup would wrap the GeneratorExit of an author that is closed half-way.
    """
    tasks: set[asyncio.Task[None]] = set()

    def start(run: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(run)
        tasks.add(task)
        return task

    try:
        yield start
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def now_s() -> float:
    """Return the loop's clock."""
    return asyncio.get_running_loop().time()
