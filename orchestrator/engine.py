"""Performs what the planner decided, and reports what happened to the session.

Owns the tasks of one session in one TaskGroup: routing, retrieval, prefill per expert, drafts and
the answer. Decides nothing; every task ends in a call of its ``Listener`` or in cancellation.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol

from ..backends.affinity import affinity_key
from ..backends.base import Chunk, GenerationParams, PrefillResult, Priority, TokenPrompt
from ..backends.errors import ExpertError
from ..backends.pool import Pool
from ..rag.base import RetrievalResult, Retriever
from .draft import Draft, continuable, continuation, joined_usage
from .errors import ErrorInfo, from_exception
from .events import Status
from .gate import SpeculationGate
from .ledger import ExpertRates
from .prefill import PrefillLane
from .router import Router
from .turn import Answer, DraftState, Prefill, Retrieve, Route, RouteEstimate

log = logging.getLogger(__name__)


class Listener(Protocol):
    """The session, as the engine sees it. Every method is synchronous and does not raise."""

    def routed(self, text: str, estimate: RouteEstimate) -> None:
        """A route was estimated for ``text``."""

    def retrieved(self, text: str, result: RetrievalResult) -> None:
        """Passages, or the reason for their absence, arrived for ``text``."""

    def prefilled(
        self, expert: str, revision: int, ready: int, total: int, result: PrefillResult
    ) -> None:
        """A slice was computed; ``ready`` of ``total`` tokens are in the expert's cache."""

    def draft_ready(self, draft_id: str) -> None:
        """The draft has its first token."""

    def draft_lost(self, draft_id: str, reason: str) -> None:
        """The draft cannot be adopted any more."""

    def answer_chunk(self, chunk: Chunk) -> None:
        """A piece of the committed answer."""

    def answer_ended(self, status: Status, error: ErrorInfo | None) -> None:
        """The answer is over, the engine's slot free."""


@dataclass(slots=True)
class Shared:
    """What all sessions of a server share; used on one event loop."""

    pool: Pool
    router: Router
    gate: SpeculationGate
    retriever: Retriever | None = None
    max_draft_tokens: int = 256
    rates: defaultdict[str, ExpertRates] = field(default_factory=lambda: defaultdict(ExpertRates))


class Engine:
    """Performs the actions of one session; use as an async context manager in one task."""

    def __init__(self, shared: Shared, listener: Listener, session_id: str) -> None:
        self._shared = shared
        self._listener = listener
        self._session_id = session_id
        self._tasks = asyncio.TaskGroup()
        self._route_next: str | None = None
        self._routing: asyncio.Task[None] | None = None
        self._retrieving: asyncio.Task[None] | None = None
        self._lanes: dict[str, PrefillLane] = {}
        self._drafts: dict[str, Draft] = {}
        self._answering: asyncio.Task[None] | None = None
        self._stop_status: Status | None = None
        self._stop_error: ErrorInfo | None = None
        self._context = contextvars.copy_context()
        self._context.run(affinity_key.set, session_id)
        self.cache_salt: str | None = None

    def _spawn(self, run: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        return self._tasks.create_task(run, name=name, context=self._context)

    async def __aenter__(self) -> Engine:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Cancel everything and wait until the experts have let go."""
        self.stop_speculation()
        for draft in list(self._drafts.values()):
            self.drop_draft(draft.plan.draft_id)
        self.stop_answer("cancelled", None)
        await self._tasks.__aexit__(None, None, None)

    # ---- routing and retrieval

    def route(self, action: Route) -> None:
        """Estimate a route; while one estimate runs only the newest text waits."""
        if self._routing is not None and not self._routing.done():
            self._route_next = action.text
            return
        self._routing = self._spawn(self._route(action.text), "route")

    async def _route(self, text: str) -> None:
        pending: str | None = text
        while pending is not None:
            text, self._route_next = pending, None
            estimate = await self._shared.router.estimate(text)
            pending = self._route_next
            self._listener.routed(text, estimate)
            pending = self._route_next or pending

    def retrieve(self, action: Retrieve) -> None:
        """Fetch passages; a newer query cancels the older one."""
        if self._retrieving is not None:
            self._retrieving.cancel()
        self._retrieving = self._spawn(self._retrieve(action), "retrieve")

    async def _retrieve(self, action: Retrieve) -> None:
        retriever = self._shared.retriever
        if retriever is None:
            result = RetrievalResult(action.revision, (), "no retrieval is configured")
        else:
            result = await retriever.retrieve(
                action.text,
                revision=action.revision,
                partial=action.partial,
                deadline_ms=action.deadline_s * 1000,
                session_id=self._session_id,
            )
        self._listener.retrieved(action.text, result)

    # ---- prefill

    def prefill(self, action: Prefill) -> None:
        """Move the expert's prefill target; the lane works on the newest one."""
        lane = self._lanes.get(action.expert)
        if lane is None:
            lane = self._lanes[action.expert] = PrefillLane(action.expert, self._shared)
        lane.aim(action, self.cache_salt)
        self._run_lane(lane)

    def expert_ready(self, expert: str) -> None:
        """An expert was loaded: go on with what waited for it."""
        if (lane := self._lanes.get(expert)) is not None:
            self._run_lane(lane)

    def _run_lane(self, lane: PrefillLane) -> None:
        if lane.task is None or lane.task.done():
            run = lane.run(self._listener.prefilled)
            lane.task = self._spawn(run, f"prefill-{lane.expert}")

    def stop_speculation(self) -> None:
        """Cancel routing, retrieval and prefill; drafts are the planner's to drop."""
        self._route_next = None
        lanes = [lane.task for lane in self._lanes.values()]
        for task in (self._routing, self._retrieving, *lanes):
            if task is not None:
                task.cancel()
        self._routing = self._retrieving = None
        self._lanes.clear()

    # ---- drafts

    def start_draft(self, plan: DraftState, params: GenerationParams) -> None:
        """Answer in hiding, at low priority, while the expert's hardware is quiet."""
        draft = self._drafts[plan.draft_id] = Draft(plan)
        draft.task = self._spawn(self._fill(draft, params), plan.draft_id)

    async def _fill(self, draft: Draft, params: GenerationParams) -> None:
        try:
            await self._generate_draft(draft, params)
        except ExpertError as error:
            if draft.status == "adopted":
                self._listener.answer_ended("failed", from_exception(error))
            else:
                self._lose(draft, error.message)
        except Exception as error:
            log.exception("draft failed")
            if draft.status == "adopted":
                self._listener.answer_ended("failed", from_exception(error))
            else:
                self._lose(draft, "internal error")

    async def _generate_draft(self, draft: Draft, params: GenerationParams) -> None:
        shared = self._shared
        async with shared.pool.acquire(draft.plan.expert) as expert:
            group = expert.capabilities.compute_group
            if shared.gate.busy(group):
                self._lose(draft, "foreground work came first")
                return
            prompt = expert.render(draft.plan.messages, open_turn=False)
            draft.prompt = replace(prompt, cache_salt=self.cache_salt)
            may_pause = continuable(params, prompt)
            draft.status = "running"

            def stand_aside() -> None:
                if draft.status == "running":
                    self._pause(draft, may_pause)

            stream = expert.generate(
                draft.prompt, params, priority=Priority.SPECULATIVE, request_id=draft.plan.draft_id
            )
            with shared.gate.guest(group, stand_aside):
                async with aclosing(stream):
                    async for chunk in stream:
                        if self._is_adopted(draft):
                            await self._stream_adopted(chunk, stream, group)
                            return
                        self._keep(draft, chunk)
                        if draft.status != "running":
                            return
                        if draft.tokens >= shared.max_draft_tokens:
                            self._pause(draft, may_pause, cancel=False)
                            return

    @staticmethod
    def _is_adopted(draft: Draft) -> bool:
        return draft.status == "adopted"

    def _keep(self, draft: Draft, chunk: Chunk) -> None:
        first = draft.tokens == 0
        draft.add(chunk)
        if first and draft.tokens:
            self._listener.draft_ready(draft.plan.draft_id)

    async def _stream_adopted(
        self, chunk: Chunk, stream: AsyncGenerator[Chunk, None], group: str
    ) -> None:
        """Stream the rest of a draft that became the answer while it was being generated."""
        with self._shared.gate.foreground(group) as delivered:
            self._listener.answer_chunk(chunk)
            async for later in stream:
                delivered(len(later.token_ids))
                self._listener.answer_chunk(later)
        self._listener.answer_ended("completed", None)

    def _pause(self, draft: Draft, may_pause: bool, *, cancel: bool = True) -> None:
        if may_pause and draft.tokens:
            draft.status = "paused"
            if cancel and draft.task is not None:
                draft.task.cancel()
        else:
            self._lose(draft, "foreground work came first" if cancel else "draft limit reached")

    def _lose(self, draft: Draft, reason: str) -> None:
        if draft.status != "dropped":
            self._listener.draft_lost(draft.plan.draft_id, reason)

    def drop_draft(self, draft_id: str) -> int:
        """Stop a draft; return the tokens thrown away."""
        draft = self._drafts.pop(draft_id, None)
        if draft is None:
            return 0
        draft.status = "dropped"
        if draft.task is not None and draft.task is not asyncio.current_task():
            draft.task.cancel()
        return draft.tokens

    def draft_tokens(self, draft_id: str) -> int:
        """Return how many tokens of the draft are ready."""
        draft = self._drafts.get(draft_id)
        return draft.tokens if draft is not None else 0

    # ---- the answer

    def answer(self, action: Answer, params: GenerationParams, request_id: str) -> None:
        """Answer for the user. What a draft has is reported before this returns."""
        self._stop_status = self._stop_error = None
        draft = self._drafts.pop(action.draft_id, None) if action.draft_id else None
        if draft is None or draft.status in ("waiting", "dropped"):
            if draft is not None and draft.task is not None:
                draft.task.cancel()
            self._answer_in(self._spawn(self._answer(action, params, request_id, None), "answer"))
            return
        was, draft.status = draft.status, "adopted"
        for chunk in draft.chunks:
            self._listener.answer_chunk(chunk)
        if was == "complete":
            self._listener.answer_ended("completed", None)
        elif was == "running":
            assert draft.task is not None
            self._answer_in(draft.task)
        else:
            self._answer_in(self._spawn(self._answer(action, params, request_id, draft), "answer"))

    def _answer_in(self, task: asyncio.Task[None]) -> None:
        """Make ``task`` the answer; a cancelled one, even before its first step, ends the turn."""
        self._answering = task
        task.add_done_callback(self._answer_stopped)

    def _answer_stopped(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self._listener.answer_ended(self._stop_status or "cancelled", self._stop_error)

    async def _answer(
        self, action: Answer, params: GenerationParams, request_id: str, draft: Draft | None
    ) -> None:
        try:
            await self._generate_answer(action, params, request_id, draft)
        except Exception as error:
            if not isinstance(error, ExpertError):
                log.exception("answer failed")
            self._listener.answer_ended("failed", from_exception(error))
        else:
            self._listener.answer_ended("completed", None)

    async def _generate_answer(
        self, action: Answer, params: GenerationParams, request_id: str, draft: Draft | None
    ) -> None:
        shared = self._shared
        async with shared.pool.acquire(action.expert) as expert:
            prompt: TokenPrompt = replace(
                expert.render(action.messages, open_turn=False), cache_salt=self.cache_salt
            )
            if draft is not None:
                prompt, params = continuation(draft, params)
            group = expert.capabilities.compute_group
            clock = asyncio.get_running_loop().time
            last_s: float | None = None
            with shared.gate.foreground(group) as delivered:
                stream = expert.generate(
                    prompt, params, priority=Priority.FOREGROUND, request_id=request_id
                )
                async with aclosing(stream):
                    async for chunk in stream:
                        now_s = clock()
                        if last_s is not None and len(chunk.token_ids) == 1:
                            shared.rates[action.expert].saw_decode((now_s - last_s) * 1000)
                        last_s = now_s
                        delivered(len(chunk.token_ids))
                        if draft is not None and chunk.usage is not None:
                            chunk = replace(chunk, usage=joined_usage(draft, chunk.usage))
                        self._listener.answer_chunk(chunk)

    def stop_answer(self, status: Status, error: ErrorInfo | None) -> None:
        """Cancel the answer; ``answer_ended`` follows once the expert has let go."""
        if self._answering is not None and not self._answering.done():
            self._stop_status, self._stop_error = status, error
            self._answering.cancel()
