"""Runs the planner: what happened goes in, actions come out and are performed.

Owns the state and the ledger of the running turn, its timers and the way out. `session.py` puts the
user's input in, `engine.py` reports what its tasks found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from ...backends.base import Chunk, GenerationParams, Image, Message, PrefillResult
from ...rag.base import RetrievalResult
from ..consensus.report import Report
from ..errors import ErrorInfo, Overloaded, from_exception
from ..events import (
    DraftAdopted,
    DraftCreated,
    DraftDiscarded,
    PrefillUpdated,
    ResponseCreated,
    ResponseDone,
    ResponseTextDelta,
    ResponseTextDone,
    Status,
)
from ..routing.estimate import RouteEstimate
from ..routing.signals import estimated_tokens
from . import lookahead, planner, values
from .engine import Engine
from .ledger import TurnRecord, turn_timeout
from .outbox import Outbox
from .prompt import build
from .shared import Shared
from .values import TurnState

EndOfTurn = Callable[[ResponseDone, tuple[Message, ...], str], TurnState]


class TurnLoop:
    """One turn after the other; synchronous, so that every step is atomic on the event loop.

    Args:
        shared, session_id, affinity: for the engine.
        outbox: where events go.
        turn_timeout_s: longest time from commit to the end.
        state: of the first turn.
        on_end: takes the terminal event, the turn's own messages and the text shown, before the
            event leaves; returns the state of the next turn.
        on_next: called once that event has left and the next turn may begin.
    """

    def __init__(
        self,
        shared: Shared,
        session_id: str,
        affinity: str,
        outbox: Outbox,
        turn_timeout_s: float,
        state: TurnState,
        on_end: EndOfTurn,
        on_next: Callable[[], None],
    ) -> None:
        self.engine = Engine(shared, self, session_id, affinity)
        self.state = state
        self.record = TurnRecord()
        self.params = GenerationParams()
        self._shared = shared
        self._outbox = outbox
        self._turn_timeout_s = turn_timeout_s
        self._on_end = on_end
        self._on_next = on_next
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None

    @staticmethod
    def now() -> float:
        """Return the loop's clock, seconds."""
        return asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Cancel the turn, wait until the experts are released, make sure that it has ended."""
        self.cancel()
        await self.engine.__aexit__()
        self._apply(planner.on_answer_end(self.state, "cancelled"))
        self._set_timer(None)

    # ---- what the user does

    def text(self, text: str, revision: int) -> None:
        """The input is now ``text``."""
        self._apply(planner.on_text(self.state, text, revision, self.now()))
        self.record.first_input_s = self.state.first_input_s

    def commit(self, text: str, revision: int, images: tuple[Image, ...] = ()) -> None:
        """The input is final."""
        self.record.commit_s = now_s = self.now()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_at(now_s + self._turn_timeout_s, self._too_late)
        self.state = replace(self.state, loaded=self._shared.pool.loaded())
        self._apply(planner.on_commit(self.state, text, revision, now_s, images))

    def cancel(self, error: ErrorInfo | None = None) -> None:
        """Stop the turn, whatever it is doing."""
        self._apply(planner.on_cancel(self.state, error))

    def expert_ready(self, expert: str) -> None:
        """An expert was loaded: prefill and drafts that waited for it may go on."""
        self.engine.expert_ready(expert)
        self._apply(planner.on_timer(self.state, self.now()))

    def stop_speculation(self) -> None:
        """What is being prepared is not wanted any more."""
        self._apply(planner.on_unwanted(self.state))

    def lose_draft(self, reason: str) -> None:
        """Drop the draft, if there is one: something it depends on has changed."""
        if self.state.draft is not None:
            self.draft_lost(self.state.draft.draft_id, reason)

    # ---- what the engine reports (engine.Listener)

    def routed(self, text: str, estimate: RouteEstimate) -> None:
        """See ``engine.Listener``."""
        self._apply(planner.on_route(self.state, text, estimate, self.now()))
        route = self.state.route
        if route is not None and route.stable:
            self.record.route_stable_s.setdefault(route.estimate.expert, self.now())

    def retrieved(self, text: str, result: RetrievalResult) -> None:
        """See ``engine.Listener``."""
        expert = lookahead.answering_expert(self.state)
        cost = self._shared.rates[expert].prefill_ms_per_token if expert is not None else None
        self._apply(planner.on_retrieval(self.state, text, result, cost, self.now()))

    def prefilled(
        self, expert: str, revision: int, ready: int, total: int, result: PrefillResult
    ) -> None:
        """See ``engine.Listener``."""
        self.record.prefilled[expert] += result.computed
        if ready >= total:
            self.record.prefill_ready_s[expert] = self.now()
        self._apply(planner.on_prefilled(self.state, result.computed))
        self._outbox.put(PrefillUpdated(revision, expert, ready, total))

    def draft_ready(self, draft_id: str, computed_tokens: int) -> None:
        """See ``engine.Listener``."""
        self.record.draft_ready_s = self.now()
        draft = self.state.draft
        if draft is not None and draft.draft_id == draft_id:
            self.record.draft_prompt = computed_tokens
            self.record.prefilled[draft.expert] += computed_tokens
            self._apply(planner.on_draft_started(self.state, draft_id, computed_tokens))

    def prompt_computed(self, expert: str, tokens: int) -> None:
        """See ``engine.Listener``."""
        self.record.prefilled[expert] += tokens
        self._apply(planner.on_prefilled(self.state, tokens))

    def draft_cut(self, tokens: int) -> None:
        """See ``engine.Listener``."""
        self.record.draft_speculated += tokens
        self.record.draft_wasted += tokens

    def draft_lost(self, draft_id: str, reason: str) -> None:
        """See ``engine.Listener``."""
        self._apply(planner.on_draft_lost(self.state, draft_id, reason, self.now()))

    def answer_begun(self, report: Report) -> None:
        """See ``engine.Listener``."""
        self.record.report = report

    def answer_chunk(self, chunk: Chunk) -> None:
        """See ``engine.Listener``."""
        record = self.record
        if not record.saw(chunk, self.now()):
            return
        response_id = self.state.response_id
        delta = ResponseTextDelta(response_id, chunk.text, chunk.token_ids, chunk.logprobs)
        if self._outbox.put(delta):
            record.shown.append(chunk.text)
        else:
            error = Overloaded("the client reads too slowly", code="slow_client")
            self.cancel(from_exception(error))

    def answer_ended(self, status: Status, error: ErrorInfo | None) -> None:
        """See ``engine.Listener``."""
        self._apply(planner.on_answer_end(self.state, status, error))

    # ---- performing

    def _apply(self, step: values.Step) -> None:
        before = self.state.docs.frozen
        self.state, actions = step
        if self.state.docs.frozen is not before:
            given_up = self.state.docs.frozen is None
            self.record.documents_frozen_s = None if given_up else self.now()
        for action in actions:
            self._perform(action)

    def _perform(self, action: values.Action) -> None:
        match action:
            case values.Emit(event):
                self._outbox.put(event)
            case values.SetTimer(at_s):
                self._set_timer(at_s)
            case values.Route():
                self.engine.route(action, self._tokens_before())
            case values.Retrieve():
                self.engine.retrieve(action)
            case values.Prefill():
                self.engine.prefill(action)
            case values.StartDraft(draft):
                self.record.drafts += 1
                self._outbox.put(DraftCreated(draft.draft_id, draft.expert, draft.revision))
                self.engine.draft(draft, self.params)
            case values.DropDraft(draft, reason):
                self._count_dropped(draft, reason)
            case values.Answer():
                self._start_answer(action)
            case values.Wake(expert):
                self._shared.pool.wake(expert)
            case values.StopSpeculation():
                self.engine.stop_speculation()
            case values.StopAnswer(status, error):
                self.engine.stop_answer(status, error)
            case values.EndTurn(status, error):
                self._end_turn(status, error)

    def _start_answer(self, action: values.Answer) -> None:
        state = self.state
        self.record.expert, self.record.degraded = action.expert, action.degraded
        self.record.documents = action.documents
        self.record.committed = action.messages[state.context.messages_before :]
        self._outbox.put(ResponseCreated(state.response_id, state.revision, action.expert))
        if action.draft_id is not None:
            tokens, spent = self.engine.drafts.tokens(action.draft_id)
            self.record.draft_speculated += spent
            self.record.draft_adopted += tokens
            self.record.draft_wasted += spent - tokens
            self._apply(planner.on_draft_counted(state, spent - tokens, tokens))
            self._outbox.put(DraftAdopted(action.draft_id, action.expert, state.revision, tokens))
        self.engine.answer(action, self.params, state.response_id)

    def _count_dropped(self, draft: values.DraftState, reason: str) -> None:
        tokens, busy_s = self.engine.drafts.drop(draft.draft_id)
        self.record.draft_speculated += tokens
        self.record.draft_wasted += tokens
        self._apply(planner.on_draft_counted(self.state, tokens, 0, busy_s))
        self._outbox.put(
            DraftDiscarded(draft.draft_id, draft.expert, draft.revision, tokens, reason)
        )

    def _end_turn(self, status: Status, error: ErrorInfo | None) -> None:
        state, record = self.state, self.record
        text = "".join(record.shown)
        if self._deadline is not None:
            self._deadline.cancel()
        if status == "completed":
            self._outbox.put(ResponseTextDone(state.response_id, text))
        rates = self._shared.rates[record.expert] if record.expert is not None else None
        done = record.end(
            state.response_id, state.revision, status, error, now_s=self.now(), rates=rates
        )
        committed = record.committed if status != "failed" else ()
        if status == "completed":
            self.engine.answered_by = record.expert
        self.engine.drafts.guess = None
        self.record = TurnRecord()
        self.state = replace(
            self._on_end(done, committed, text),
            draft_tokens_wasted=state.draft_tokens_wasted // 2,
            draft_tokens_adopted=state.draft_tokens_adopted // 2,
            habits=state.habits,
        )
        self._outbox.put(done)
        self._on_next()

    def _tokens_before(self) -> int:
        messages = build(self.state.context, "", open_turn=True)
        return estimated_tokens("".join(message.content for message in messages))

    def _set_timer(self, at_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at_s is not None:
            self._timer = asyncio.get_running_loop().call_at(at_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        due_s = self.state.timer_s or 0.0  # the loop may be early by its clock's resolution
        self._apply(planner.on_timer(self.state, max(due_s, self.now())))

    def _too_late(self) -> None:
        self.cancel(turn_timeout(self._turn_timeout_s))
