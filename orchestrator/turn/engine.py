"""Performs what the planner decided, and reports what happened to the session.

Owns the tasks of one session in one TaskGroup: routing, retrieval, prefill per expert; drafts and
the answer have owners of their own in it. Decides nothing; every task ends in a call of its
``Listener`` or in cancellation.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TypeVar

from msgspec import structs

from ...backends.base import GenerationParams, Message, TokenPrompt
from ...backends.remote.affinity import affinity_key, prefix_of, shared_prefix
from ...rag.base import RetrievalResult, Retriever
from ..consensus.options import Consensus
from ..fairness.asker import own_salt
from ..routing.estimate import RouteEstimate
from ..routing.selection import NO_CONTEXT, RouteContext
from .answerer import Answerer, Asked, Fit
from .drafter import Drafter
from .prefill import ExpertPrefill, SentText, written
from .retrievals import Retrievals
from .shared import Listener, Shared
from .values import Answer, DraftState, Prefill, Retrieve, Route

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRIEVAL_GRACE_S = 0.05
"""How long after its deadline a retriever may still answer."""


class Engine:
    """Performs the actions of one session; use as an async context manager in one task."""

    def __init__(self, shared: Shared, listener: Listener, session_id: str, affinity: str) -> None:
        self._shared = shared
        self._listener = listener
        self._session_id = session_id
        self._tasks = asyncio.TaskGroup()
        self._route_next: Route | None = None
        self._route_context = NO_CONTEXT
        self._last_estimate: RouteEstimate | None = None
        self.answered_by: str | None = None
        self._routing: asyncio.Task[None] | None = None
        self._retrieving: dict[int, asyncio.Task[None]] = {}
        self._retrievals = Retrievals()
        self.drafts = Drafter(shared, listener, self._spawn)
        self.answers = Answerer(shared, listener, self._spawn, self.drafts)
        self._prefills: dict[str, ExpertPrefill] = {}
        self._sent: dict[str, SentText] = {}
        self._context = contextvars.copy_context()
        self._context.run(affinity_key.set, affinity)
        self.cache_salt: str | None = None
        self.consensus = Consensus()

    def put_in_force(
        self, cache_salt: str | None, consensus: Consensus, instructions: str | None
    ) -> None:
        """Take what a session's options say; requests of the same instructions are gathered."""
        self.cache_salt, self.consensus = own_salt(cache_salt), consensus
        prefix = prefix_of(instructions)
        if prefix != self._context.get(shared_prefix):
            self._context = self._context.copy()  # the old one may be entered right now
            self._context.run(shared_prefix.set, prefix)

    def _spawn(self, run: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        return self._tasks.create_task(run, name=name, context=self._context)

    async def __aenter__(self) -> Engine:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Cancel everything and wait until the experts are released."""
        self.stop_speculation()
        self.drafts.drop_all()
        self.answers.stop("cancelled", None)
        await self._tasks.__aexit__(None, None, None)

    # ---- routing and retrieval

    def route(self, action: Route, tokens_before: int) -> None:
        """Estimate a route; while one estimate runs only the newest text waits.

        ``tokens_before``: of the prompt before the text, estimated.
        """
        current = self.answered_by
        rates = self._shared.rates[current] if current is not None else None
        lost_ms = tokens_before * ((rates and rates.prefill_ms_per_token) or 0.0)
        self._route_context = RouteContext(
            images=action.images,
            tokens_before=tokens_before,
            current=current,
            lost_s=lost_ms / 1000,
            committed=action.committed,
        )
        if self._routing is not None and not self._routing.done():
            self._route_next = action
            return
        self._routing = self._spawn(self._route(action), "route")

    async def _route(self, action: Route) -> None:
        pending: Route | None = action
        while pending is not None:
            # a newer text may have come before this task's first step
            action, self._route_next = self._route_next or pending, None
            clock = asyncio.get_running_loop().time
            began_s = clock()
            estimate = await self._estimate(action)
            estimate = structs.replace(estimate, ms=round((clock() - began_s) * 1000, 3))
            pending = self._route_next
            self._listener.routed(action.text, estimate)
            pending = self._route_next or pending

    async def _estimate(self, action: Route) -> RouteEstimate:
        router = self._shared.router
        try:
            found = await self._within(
                action.deadline_s, partial(router.estimate, action.text, self._route_context)
            )
        except TimeoutError:
            reason = f"no estimate within {action.deadline_s:g} s"
        except Exception as error:  # a router of the embedding program, for example
            log.error("routing failed: %s", type(error).__name__)
            reason = "routing failed"
        else:
            self._last_estimate = found
            return found
        known = self._last_estimate or router.default_estimate()
        unsure = structs.replace(known, stable=False, final=None, provisional=True)
        return structs.replace(unsure, reasons=(reason,))

    async def _within(self, limit_s: float, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask and wait, for so long at most: also if it does not heed being cancelled.

        Raises:
            TimeoutError: it took longer; the task goes on until it ends, or the session does.
        """

        async def outcome() -> T | Exception:
            try:
                return await ask()
            except Exception as error:
                return error

        task = self._tasks.create_task(outcome(), name="asked", context=self._context)
        try:
            await asyncio.wait({task}, timeout=limit_s)
        finally:
            task.cancel()
        if not task.done() or task.cancelled():
            raise TimeoutError
        found = task.result()
        if isinstance(found, Exception):
            raise found
        return found

    def retrieve(self, action: Retrieve) -> None:
        """Fetch passages, in the order that ``Retrievals`` decides."""
        verdict = self._retrievals.ask(action, asyncio.get_running_loop().time())
        for slot in verdict.stop:
            self._retrieving[slot].cancel()
        if verdict.start is not None:
            self._run_retrieval(action, verdict.start)

    def _run_retrieval(self, action: Retrieve, slot: int) -> None:
        self._retrieving[slot] = self._spawn(self._retrieve(action, slot), "retrieve")

    async def _retrieve(self, action: Retrieve, slot: int) -> None:
        retriever = self._shared.retriever
        if retriever is None:
            result = RetrievalResult(action.revision, (), "no retrieval is configured")
        else:
            result = await self._passages(retriever, action, slot)
        now_s = asyncio.get_running_loop().time()
        if result.degraded is not None or result.provisional:
            final = self._retrievals.unanswered(slot, action, now_s)
            if final is not None:
                self._run_retrieval(final, slot)
                return
        asked = self._retrievals.asked_in(slot)
        if asked is not None and asked.revision > result.revision:  # a commit joined meanwhile
            result = dataclasses.replace(result, revision=asked.revision)
        following = self._retrievals.answered(slot, now_s)
        if following is not None:
            self._run_retrieval(following, slot)
        self._listener.retrieved(action.text, result)

    async def _passages(self, retriever: Retriever, action: Retrieve, slot: int) -> RetrievalResult:
        ask = partial(
            retriever.retrieve,
            action.text,
            revision=action.revision,
            partial=action.partial,
            deadline_ms=action.deadline_s * 1000,
            # a newer revision stops older ones there
            session_id=f"{self._session_id}.{slot}",
        )
        try:
            return await self._within(action.deadline_s + RETRIEVAL_GRACE_S, ask)
        except TimeoutError:
            return RetrievalResult(action.revision, (), "timeout")
        except Exception as error:  # a retriever of the embedding program, for example
            log.error("retrieval failed: %s", type(error).__name__)
            return RetrievalResult(action.revision, (), "failed")

    # ---- prefill

    def prefill(self, action: Prefill) -> None:
        """Move the prefill target; other experts of the session are not prefilled any further."""
        for name, running in self._prefills.items():
            if name not in action.experts and running.task is not None:
                running.task.cancel()
        first: tuple[ExpertPrefill, ...] = ()
        for name in action.experts:
            sent = self._sent.setdefault(name, SentText())
            running = self._prefills.setdefault(name, ExpertPrefill(name, self._shared, sent))
            running.aim(action, self.cache_salt, first)
            self._run_prefill(running)
            first = (*first, running)

    def prime(self, name: str, tokens: tuple[int, ...]) -> None:
        """An answer of this expert left so many tokens in its cache; nothing is under way."""
        if (expert := self._shared.pool.ready(name)) is not None:
            running = self._prefills[name] = ExpertPrefill(name, self._shared)
            running.prime(expert, self.cache_salt, tokens)

    def answered(self, name: str, prompt: TokenPrompt, text: str, tokens: int) -> None:
        """An answer of an expert without local tokens left prompt and text in its cache."""
        if (expert := self._shared.pool.ready(name)) is not None:
            said = written((*prompt.messages, Message("assistant", text)))
            self._sent.setdefault(name, SentText()).keep(said, tokens, expert, self.cache_salt)

    def expert_ready(self, expert: str) -> None:
        """An expert was loaded: go on with what waited for it."""
        if (running := self._prefills.get(expert)) is not None:
            self._run_prefill(running)

    def _run_prefill(self, running: ExpertPrefill) -> None:
        # one that is cancelled but not over yet does not come back to a newer target
        if running.task is None or running.task.done() or running.task.cancelling():
            run = running.run(self._listener.prefilled)
            running.task = self._spawn(run, f"prefill-{running.expert}")

    def stop_speculation(self) -> None:
        """Cancel routing, retrieval and prefill; drafts are the planner's to drop."""
        self._route_next = None
        tasks = [running.task for running in self._prefills.values()]
        for task in (self._routing, *self._retrieving.values(), *tasks):
            if task is not None:
                task.cancel()
        self._routing = None
        self._retrieving.clear()
        self._retrievals.clear()
        self._prefills.clear()

    # ---- drafts

    def draft(self, plan: DraftState, params: GenerationParams) -> None:
        """Start a draft behind the prefill of its expert."""
        running = self._prefills.get(plan.expert)
        self.drafts.start(plan, params, self.consensus, self.cache_salt, running)

    # ---- the answer

    def answer(
        self, action: Answer, params: GenerationParams, request_id: str, fit: Fit | None = None
    ) -> None:
        """Answer for the user; see ``Answerer.begin``."""
        asked = Asked(params, request_id, self.cache_salt, self.consensus)
        self.answers.begin(action, asked, fit)
