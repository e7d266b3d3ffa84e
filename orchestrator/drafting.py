"""Generates drafts for one session, and stands aside for foreground work.

Owns the drafts until one is adopted. When to draft and what may be adopted is the planner's
decision; the buffer itself is in `draft.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, aclosing

from ..backends.base import Chunk, GenerationParams, Priority
from ..backends.errors import ExpertError
from .consensus.authors import convened, is_continuable, write
from .consensus.choice import Consensus
from .consensus.panel import Panel
from .consensus.task import Task, tokens_of
from .draft import Draft, continuable
from .errors import from_exception
from .prefill import PrefillLane
from .shared import Listener, Shared
from .turn import DraftState

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[None, None, None], str], asyncio.Task[None]]


class Drafter:
    """Runs drafts in tasks made by ``spawn``; synchronous but for those tasks."""

    def __init__(self, shared: Shared, listener: Listener, spawn: Spawn) -> None:
        self._shared = shared
        self._listener = listener
        self._spawn = spawn
        self._drafts: dict[str, Draft] = {}

    def start(
        self,
        plan: DraftState,
        params: GenerationParams,
        choice: Consensus,
        cache_salt: str | None,
        lane: PrefillLane | None,
    ) -> None:
        """Answer in hiding, at low priority, while the expert's hardware is quiet.

        ``lane``: where the expert's prefill for this session runs; the draft lets it finish, since
        a draft cannot compute its prompt in slices.
        """
        draft = self._drafts[plan.draft_id] = Draft(plan, lane=lane)
        task = Task(
            plan.expert,
            plan.messages,
            params,
            Priority.SPECULATIVE,
            plan.draft_id,
            cache_salt,
            choice,
            draft.wanted,
            draft.report,
        )
        draft.task = self._spawn(self._fill(draft, task), plan.draft_id)

    def take(self, draft_id: str) -> Draft | None:
        """Hand a draft over to the answer."""
        return self._drafts.pop(draft_id, None)

    def tokens(self, draft_id: str) -> tuple[int, int]:
        """Return how many tokens of the draft are ready, and how many were generated for it."""
        draft = self._drafts.get(draft_id)
        return (draft.tokens, draft.spent) if draft is not None else (0, 0)

    def drop(self, draft_id: str) -> int:
        """Stop a draft; return the tokens generated for it, all thrown away."""
        draft = self._drafts.pop(draft_id, None)
        if draft is None:
            return 0
        draft.status = "dropped"
        if draft.task is not None and draft.task is not asyncio.current_task():
            draft.task.cancel()
        return draft.spent

    def drop_all(self) -> None:
        """Stop every draft."""
        for draft_id in list(self._drafts):
            self.drop(draft_id)

    async def _fill(self, draft: Draft, task: Task) -> None:
        try:
            await self._generate(draft, task)
        except Exception as error:
            if not isinstance(error, ExpertError):
                log.error("a draft failed: %s", type(error).__name__)
            info = from_exception(error)
            if self._is_adopted(draft):
                self._listener.answer_ended("failed", info)
            else:
                self._lose(draft, info.message)

    async def _generate(self, draft: Draft, task: Task) -> None:
        shared, expert = self._shared, draft.plan.expert
        if draft.lane is not None:
            await draft.lane.settled()
        if shared.pool.ready(expert) is None:
            shared.pool.wake(expert)
            self._lose(draft, "the expert is not loaded")
            return
        async with convened(shared.pool, shared.team, expert, task.choice) as panel:
            draft.groups = panel.groups
            if shared.gate.busy(*panel.groups):
                self._lose(draft, "foreground work came first")
                return
            await self._write(draft, task, panel)
        if self._is_adopted(draft):
            self._listener.answer_ended("completed", None)
        elif draft.status == "running":
            draft.status = "complete"

    async def _write(self, draft: Draft, task: Task, panel: Panel) -> None:
        shared = self._shared
        if draft.plan.expert in panel.experts:
            draft.prompt = task.prompt = task.rendered(panel.experts[draft.plan.expert])
        may_pause = (
            draft.prompt is not None
            and continuable(task.params, draft.prompt)
            and is_continuable(task.choice)
        )
        draft.status = "running"

        def stand_aside() -> None:
            if draft.status == "running":
                self._pause(draft, may_pause)

        stream = write(task, panel, shared.team)
        with ExitStack() as stack:
            for group in panel.groups:
                stack.enter_context(shared.gate.guest(group, stand_aside))
            async with aclosing(stream):
                async for chunk in stream:
                    if self._is_adopted(draft):
                        self._deliver(draft, chunk)
                        continue
                    self._keep(draft, chunk)
                    if draft.status == "running" and draft.tokens >= shared.max_draft_tokens:
                        self._pause(draft, may_pause, cancel=False)
                        return

    @staticmethod
    def _is_adopted(draft: Draft) -> bool:
        return draft.status == "adopted"

    def _keep(self, draft: Draft, chunk: Chunk) -> None:
        first = draft.tokens == 0
        draft.add(chunk)
        if first and draft.tokens and draft.prompt is not None:
            prompt = draft.prompt
            missing = len(prompt.token_ids) if draft.lane is None else draft.lane.missing(prompt)
            self._listener.draft_ready(draft.plan.draft_id, missing)

    def _deliver(self, draft: Draft, chunk: Chunk) -> None:
        """Stream on: the draft became the answer while it was being generated."""
        draft.delivered(tokens_of(chunk))
        self._listener.answer_chunk(chunk)

    def _pause(self, draft: Draft, may_pause: bool, *, cancel: bool = True) -> None:
        if may_pause:
            self._listener.draft_cut(draft.cut())
        if may_pause and draft.tokens:
            draft.status = "paused"
            if cancel and draft.task is not None:
                draft.task.cancel()
        else:
            self._lose(draft, "foreground work came first" if cancel else "draft limit reached")

    def _lose(self, draft: Draft, reason: str) -> None:
        if draft.status != "dropped":
            self._listener.draft_lost(draft.plan.draft_id, reason)
