"""Generates drafts for one session, and yields to foreground work.

Owns the drafts until one is adopted. When to draft and what may be adopted is the planner's
decision; the buffer itself is in `hidden_answer.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, aclosing

from ...backends.base import Chunk, GenerationParams
from ...backends.errors import ExpertError
from ..consensus.authors import convened, is_continuable, write
from ..consensus.guess import Guess
from ..consensus.options import Consensus
from ..consensus.panel import Panel
from ..consensus.task import Task, question_of, tokens_of
from ..errors import from_exception
from .hidden_answer import Draft, continuable
from .prefill import ExpertPrefill
from .shared import Listener, Shared
from .values import DraftState

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[None, None, None], str], asyncio.Task[None]]


class Drafter:
    """Runs drafts in tasks made by ``spawn``; synchronous but for those tasks.

    Attributes:
        guess: what the last draft that cannot be adopted said; None before one.
    """

    def __init__(self, shared: Shared, listener: Listener, spawn: Spawn) -> None:
        self._shared = shared
        self._listener = listener
        self._spawn = spawn
        self._drafts: dict[str, Draft] = {}
        self.guess: Guess | None = None

    def start(
        self,
        plan: DraftState,
        params: GenerationParams,
        consensus: Consensus,
        cache_salt: str | None,
        prefill: ExpertPrefill | None,
    ) -> None:
        """Answer in hiding, at low priority, while the expert's hardware is quiet.

        ``prefill``: the session's prefill of this expert; the draft lets it finish, since a draft
        cannot compute its prompt in slices.
        """
        draft = self._drafts[plan.draft_id] = Draft(plan, prefill=prefill)
        task = Task(
            plan.expert,
            plan.messages,
            params,
            plan.draft_id,
            cache_salt,
            consensus,
            draft.clock,
            draft.report,
        )
        draft.report.on_hidden_prompt = self._listener.prompt_computed
        draft.task = self._spawn(self._fill(draft, task), plan.draft_id)

    def take(self, draft_id: str) -> Draft | None:
        """Hand a draft over to the answer."""
        return self._drafts.pop(draft_id, None)

    def tokens(self, draft_id: str) -> tuple[int, int]:
        """Return how many tokens of the draft are ready, and how many were generated for it."""
        draft = self._drafts.get(draft_id)
        return (draft.tokens, draft.spent) if draft is not None else (0, 0)

    def limit(
        self, draft_id: str, params: GenerationParams, max_tokens: int | None, consensus: Consensus
    ) -> int | None:
        """Make of a draft with ``params`` one with another limit; see ``Draft.limit``."""
        draft = self._drafts.get(draft_id)
        if draft is None:
            return 0
        may_continue = is_continuable(consensus) and draft.prompt is not None
        if may_continue and draft.prompt is not None:
            may_continue = continuable(params, draft.prompt)
        was, cost = draft.status, draft.limit(max_tokens, may_continue)
        if was == "running" and draft.status != was:
            self._stop(draft)
        return cost

    def drop(self, draft_id: str) -> tuple[int, float]:
        """Stop a draft; return the tokens generated for it, all thrown away, and its seconds."""
        draft = self._drafts.pop(draft_id, None)
        if draft is None:
            return 0, 0.0
        self._remember(draft)
        draft.status = "dropped"
        self._stop(draft)
        return draft.spent, draft.busy_s

    def drop_all(self) -> None:
        """Stop every draft."""
        for draft_id in list(self._drafts):
            self.drop(draft_id)

    def _remember(self, draft: Draft) -> None:
        """Keep the tokens as a guess, unless they are the beginning of the one that is known."""
        tokens = draft.token_ids() if draft.prompt is not None else ()
        if tokens and (self.guess is None or self.guess.tokens[: len(tokens)] != tokens):
            question = question_of(draft.plan.messages)
            self.guess = Guess(question, draft.plan.expert, draft.tokenizer_id, tokens)

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
        if draft.prefill is not None:
            await draft.prefill.settled()
        if shared.pool.ready(expert) is None:
            shared.pool.wake(expert)
            self._lose(draft, "the expert is not loaded")
            return
        async with convened(shared.pool, shared.team, expert, task.consensus) as panel:
            draft.groups = panel.groups
            if shared.gate.busy(*panel.groups):
                self._lose(draft, "foreground work came first")
                return
            if not shared.places.may_speculate():
                self._lose(draft, "the key's speculation of this minute is spent")
                return
            await self._write(draft, task, panel)
        if self._is_adopted(draft):
            self._listener.answer_ended("completed", None)
        elif draft.status == "running":
            draft.status = "complete"

    async def _write(self, draft: Draft, task: Task, panel: Panel) -> None:
        shared = self._shared
        may_pause = False
        if is_continuable(task.consensus):
            leader = panel.experts[draft.plan.expert]
            draft.prompt = task.prompt = await task.rendered(leader)
            draft.tokenizer_id = leader.capabilities.tokenizer_id
            may_pause = continuable(task.params, draft.prompt)
        task.guess = self.guess
        draft.status = "running"
        draft.begun_s = asyncio.get_running_loop().time()

        def stand_aside(reason: str = "foreground work came first") -> None:
            if draft.status == "running":
                self._pause(draft, may_pause, reason)

        def stay_within_limit() -> None:
            if draft.spent >= shared.max_draft_tokens * len(panel.experts):
                stand_aside("draft limit reached")

        if not is_continuable(task.consensus):
            task.report.on_aside = stay_within_limit
        stream = write(task, panel, shared)
        with ExitStack() as stack:
            for group in panel.groups:
                stack.enter_context(shared.gate.guest(group, stand_aside))
            async with aclosing(stream):
                async for chunk in stream:
                    if self._is_adopted(draft):
                        self._deliver(draft, chunk)
                        continue
                    self._keep(draft, chunk)
                    shared.places.speculated(tokens_of(chunk))
                    if draft.status == "running" and draft.tokens >= shared.max_draft_tokens:
                        stand_aside("draft limit reached")
                        return

    @staticmethod
    def _stop(draft: Draft) -> None:
        if draft.task is not None and draft.task is not asyncio.current_task():
            draft.task.cancel()

    @staticmethod
    def _is_adopted(draft: Draft) -> bool:
        return draft.status == "adopted"

    def _keep(self, draft: Draft, chunk: Chunk) -> None:
        first = draft.tokens == 0
        draft.add(chunk)
        draft.newest_s = asyncio.get_running_loop().time()
        if first and draft.tokens:
            missing = 0
            if draft.prompt is not None:
                ids = draft.prompt.token_ids
                missing = len(ids) if draft.prefill is None else draft.prefill.missing(draft.prompt)
            self._listener.draft_ready(draft.plan.draft_id, missing)

    def _deliver(self, draft: Draft, chunk: Chunk) -> None:
        """Stream on: the draft became the answer while it was being generated."""
        draft.delivered(tokens_of(chunk))
        self._listener.answer_chunk(chunk)

    def _pause(self, draft: Draft, may_pause: bool, reason: str) -> None:
        self._remember(draft)
        if may_pause:
            self._listener.draft_cut(draft.cut())
        if may_pause and draft.tokens:
            draft.status = "paused"
            self._stop(draft)
        else:
            self._lose(draft, reason)

    def _lose(self, draft: Draft, reason: str) -> None:
        if draft.status != "dropped":
            self._listener.draft_lost(draft.plan.draft_id, reason)
