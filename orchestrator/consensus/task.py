"""One answer to be written, and what its author works with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from msgspec.structs import replace

from ...backends.base import Chunk, Expert, GenerationParams, Message, Priority, TokenPrompt
from ...backends.rendering import rendered
from .guess import Guess
from .options import Consensus
from .report import Report

log = logging.getLogger(__name__)

Start = Callable[[Coroutine[None, None, None]], "asyncio.Task[None]"]


class CommitClock:
    """The time since the commit, from which deadlines run; before it nobody waits yet."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._begun = asyncio.Event()

    @property
    def has_begun(self) -> bool:
        """Whether somebody waits."""
        return self._begun.is_set()

    def begin(self) -> None:
        """The input was committed, now. Idempotent."""
        if self._since_s is None:
            self._since_s = now_s()
            self._begun.set()

    async def reached(self, seconds: float) -> None:
        """Return so long after the commit."""
        await self._begun.wait()
        assert self._since_s is not None
        await asyncio.sleep(self._since_s + seconds - now_s())

    async def lasting(self, seconds: float) -> None:
        """Return once somebody has waited for so long from now on."""
        begun_s = now_s()
        await self._begun.wait()
        assert self._since_s is not None
        await asyncio.sleep(max(self._since_s, begun_s) + seconds - now_s())


@dataclass(slots=True)
class Task:
    """An answer to be written.

    Attributes:
        leader: the routed expert.
        prompt: of the leader, where it goes on from a paused draft; None = as ``messages`` say.
        begun: the tokens of the answer that ``prompt`` ends with.
        guess: how the answer may go on, from an earlier draft.
        clock: when somebody began to wait for it.
        report: to be filled by whoever writes.
    """

    leader: str
    messages: tuple[Message, ...]
    params: GenerationParams
    request_id: str
    cache_salt: str | None
    consensus: Consensus
    clock: CommitClock
    report: Report
    prompt: TokenPrompt | None = None
    begun: tuple[int, ...] = ()
    guess: Guess | None = None
    _requests: int = field(default=0, init=False)

    @property
    def priority(self) -> Priority:
        """Of requests that begin now."""
        return Priority.FOREGROUND if self.clock.has_begun else Priority.SPECULATIVE

    def next_id(self, expert: str) -> str:
        """Return an id for one more request of this answer."""
        self._requests += 1
        return f"{self.request_id}.{expert}.{self._requests}"

    async def rendered(self, expert: Expert, *more: Message) -> TokenPrompt:
        """Return the whole prompt, and perhaps more, as this expert sees it."""
        prompt = await rendered(expert, (*self.messages, *more))
        if not more and expert.expert_id == self.leader:
            self.report.asks(prompt)
        return prompt if self.cache_salt is None else replace(prompt, cache_salt=self.cache_salt)


async def request(
    task: Task, expert: Expert, prompt: TokenPrompt, params: GenerationParams
) -> AsyncGenerator[Chunk, None]:
    """Yield what an expert says in one more request of this answer; its prompt is counted.

    A request that is broken off does not tell what it found in the cache: that counts as nothing,
    but for the leader, whose prompt the session prefills.
    """
    name, hidden = expert.expert_id, not task.clock.has_begun
    stream = expert.generate(prompt, params, priority=task.priority, request_id=task.next_id(name))
    computed = 0
    try:
        async with aclosing(stream):
            async for chunk in stream:
                if chunk.usage is not None:
                    computed = chunk.usage.prompt_tokens - (chunk.usage.cached_tokens or 0)
                elif not computed and name != task.leader:
                    computed = prompt.num_tokens
                yield chunk
    finally:
        if hidden:
            task.report.saw_hidden_prompt(name, computed)


async def in_time(
    tasks: set[asyncio.Task[None]], clock: CommitClock, deadline_s: float, start: Start
) -> bool:
    """Wait for all tasks, but not beyond the deadline; return whether they ended."""
    late = start(clock.lasting(deadline_s))
    while tasks and not late.done():
        await asyncio.wait({*tasks, late}, return_when=asyncio.FIRST_COMPLETED)
        tasks = {task for task in tasks if not task.done()}
    late.cancel()
    return not tasks


def question_of(messages: Sequence[Message]) -> str:
    """Return what the user said last; a documents block may stand behind it."""
    return next((m.content for m in reversed(messages) if m.role == "user"), "")


def tokens_of(chunk: Chunk) -> int:
    """Return the chunk's tokens; text from a server that names no tokens counts as one."""
    return len(chunk.token_ids) or int(bool(chunk.text or chunk.tool_calls or chunk.reasoning))


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
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                log.error("a helper of an answer failed: %s", type(ended).__name__)


def now_s() -> float:
    """Return the loop's clock."""
    return asyncio.get_running_loop().time()
