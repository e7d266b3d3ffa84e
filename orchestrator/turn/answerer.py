"""Writes the answer of one session's turn: what its draft has, and what is generated behind that.

Owns the answer that is being written until its end is reported. When to answer, and which draft may
be adopted, is the planner's decision.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, aclosing

from msgspec import Struct, structs

from ...backends.base import GenerationParams
from ...backends.errors import ExpertError
from ..consensus.authors import convened, is_continuable, write
from ..consensus.options import Consensus
from ..consensus.report import Report
from ..consensus.task import CommitClock, Task, tokens_of
from ..errors import ErrorInfo, LiveMindError, from_exception
from ..event_queue import when_out
from ..events import Status
from ..rates import DecodeClock
from .drafter import Drafter, Spawn
from .hidden_answer import Draft, continuation, joined_usage
from .shared import Listener, Shared
from .values import Answer

log = logging.getLogger(__name__)

Fit = Callable[[], Awaitable[Answer]]

CHARACTERS_A_TOKEN = 4


class Asked(Struct, frozen=True):
    """What an answer is asked for with, beside the planner's action.

    Attributes:
        params: how to sample.
        request_id: of the turn.
        cache_salt: parts the prefix cache; None = it does not.
        consensus: who answers.
    """

    params: GenerationParams
    request_id: str
    cache_salt: str | None
    consensus: Consensus


class Answerer:
    """Runs one answer at a time in a task made by ``spawn``; ``drafts`` of the same session."""

    def __init__(self, shared: Shared, listener: Listener, spawn: Spawn, drafts: Drafter) -> None:
        self._shared = shared
        self._listener = listener
        self._spawn = spawn
        self._drafts = drafts
        self._answering: asyncio.Task[None] | None = None
        self._is_given = False
        self._stop_status: Status | None = None
        self._stop_error: ErrorInfo | None = None

    def begin(self, action: Answer, asked: Asked, fit: Fit | None = None) -> None:
        """Answer for the user. What a draft has is reported before this returns.

        ``fit``: returns the action with messages that fit the expert's context; None = they do.
        """
        self._is_given, self._stop_status, self._stop_error = False, None, None
        draft = self._drafts.take(action.draft_id) if action.draft_id else None
        if draft is None or draft.status in ("waiting", "dropped"):
            if draft is not None and draft.task is not None:
                draft.task.cancel()
            run = self._answer(action, asked, None, fit)
            self._answer_in(self._spawn(run, "answer"))
            return
        was = draft.status
        if was != "complete":  # its task has nothing to say any more
            draft.status = "adopted"
        draft.clock.begin()
        draft.report.commit()
        if was != "paused":
            self._listener.answer_begun(draft.report)
        if draft.chunks:
            self._listener.answer_chunk(draft.joined())
        if self._stop_status is not None:
            if draft.task is not None:
                draft.task.cancel()
            self._listener.answer_ended(self._stop_status, self._stop_error)
        elif was == "complete":
            self._is_given = True
            self._spawn(self._end_given(), "answer").add_done_callback(self._given_stopped)
        elif was == "running":
            self._go_on_with(draft)
        else:
            self._answer_in(self._spawn(self._answer(action, asked, draft), "answer"))

    async def _end_given(self) -> None:
        """End a turn whose answer was whole already, once that had time to leave the server.

        Drawing the balance, and what follows from it, takes longer than sending the text.
        """
        await when_out()
        self._is_given = False
        self._listener.answer_ended("completed", None)

    def _given_stopped(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # its session is torn down
            self._is_given = False
            self._listener.answer_ended("completed", None)

    def _go_on_with(self, draft: Draft) -> None:
        """Let a draft that is being generated become the answer: it is foreground work now."""
        assert draft.task is not None
        stay = ExitStack()
        draft.delivered = stay.enter_context(self._shared.gate.foreground(*draft.groups))
        draft.task.add_done_callback(lambda task: stay.close())
        self._answer_in(draft.task)

    def _answer_in(self, task: asyncio.Task[None]) -> None:
        """Make ``task`` the answer; a cancelled one, even before its first step, ends the turn."""
        self._answering = task
        task.add_done_callback(self._answer_stopped)

    def _answer_stopped(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self._listener.answer_ended(self._stop_status or "cancelled", self._stop_error)

    async def _answer(
        self,
        action: Answer,
        asked: Asked,
        draft: Draft | None,
        fit: Fit | None = None,
    ) -> None:
        try:
            action = action if fit is None else await fit()
            await self._generate(action, asked, draft)
        except Exception as error:
            if not isinstance(error, ExpertError | LiveMindError):
                log.error("an answer failed: %s", type(error).__name__)
            self._listener.answer_ended("failed", from_exception(error))
        else:
            self._listener.answer_ended("completed", None)

    async def _generate(self, action: Answer, asked: Asked, draft: Draft | None) -> None:
        shared, params, clock = self._shared, asked.params, CommitClock()
        clock.begin()
        task = Task(
            action.expert,
            action.messages,
            params,
            asked.request_id,
            asked.cache_salt,
            asked.consensus,
            clock,
            Report() if draft is None else draft.report,
        )
        self._listener.answer_begun(task.report)
        async with convened(shared.pool, shared.team, action.expert, task.consensus) as panel:
            task.guess = self._drafts.guess
            if draft is not None:
                expert, task.begun = panel.experts[action.expert], draft.token_ids()
                task.prompt, task.params = continuation(draft, params, expert.capabilities)
                task.guess = task.guess.after(task.begun) if task.guess is not None else None
            rates = shared.rates[action.expert] if is_continuable(task.consensus) else None
            decode, now_s = DecodeClock(rates), asyncio.get_running_loop().time
            size = sum(len(message.content) for message in action.messages) // CHARACTERS_A_TOKEN
            place = shared.places.place(action.expert, size, params.max_tokens or 0)
            async with AsyncExitStack() as stack:
                delivered = stack.enter_context(shared.gate.foreground(*panel.groups))
                with shared.gate.kept_out(*panel.groups):
                    used = await stack.enter_async_context(place)
                async with aclosing(write(task, panel, shared)) as stream:
                    async for chunk in stream:
                        tokens = len(chunk.token_ids)
                        decode.saw(0 if task.report.drafted else tokens, now_s())
                        delivered(tokens)
                        used(tokens_of(chunk))
                        if draft is not None and chunk.usage is not None:
                            chunk = structs.replace(chunk, usage=joined_usage(draft, chunk.usage))
                        self._listener.answer_chunk(chunk)

    def stop(self, status: Status, error: ErrorInfo | None) -> None:
        """Cancel the answer; ``answer_ended`` follows once the expert is released.

        One that was whole at its beginning ends by itself, completed.
        """
        if self._is_given or self._stop_status is not None:
            return  # the first reason counts, and a second cancel would disturb the clean-up
        self._stop_status, self._stop_error = status, error
        if self._answering is not None:
            self._answering.cancel()
