"""Runs the planner: what happened goes in, actions come out and are performed.

Owns the state and the ledger of the running turn, its timers and the way out. `session.py` puts the
user's input in, `engine.py` reports what its tasks found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from ...backends.base import Chunk, Expert, GenerationParams, Message
from ...rag.base import RetrievalResult
from ..consensus.report import Report
from ..errors import ErrorInfo, Overloaded, from_exception
from ..event_queue import Outbox, call_when_out
from ..events import (
    DraftAdopted,
    DraftCreated,
    DraftDiscarded,
    PrefillUpdated,
    ResponseCreated,
    ResponseDone,
    ResponseSentence,
    ResponseTextDone,
    Status,
)
from ..routing.estimate import RouteEstimate
from ..routing.signals import estimated_tokens
from ..waiting import Commit
from . import changes, lookahead, planner, values
from .changes import Change, differing
from .engine import Engine
from .ledger import TurnRecord, deltas, turn_timeout
from .passages import documents
from .prompt import build
from .sentences import Sentences
from .shared import Computed, Shared, TurnItems
from .values import TurnState

Said = tuple[Message, ...]
EndOfTurn = Callable[[ResponseDone], TurnState]


class TurnLoop:
    """One turn after the other; synchronous, so that every step is atomic on the event loop.

    Args:
        shared, session_id, affinity: for the engine.
        outbox: where events go.
        turn_timeout_s: longest time from commit to the end.
        state: of the first turn.
        items: of the conversation.
        on_end: takes the terminal event before it leaves; returns the state of the next turn.
        on_next: called once that event has left and the next turn may begin.

    Attributes:
        params: sampling of the turn that is being answered, or expected of the next one.
        segmented: the answer leaves in sentences too.
        prompt_tokens: of the last turn that ended.
    """

    def __init__(
        self,
        shared: Shared,
        session_id: str,
        affinity: str,
        outbox: Outbox,
        turn_timeout_s: float,
        state: TurnState,
        items: TurnItems,
        on_end: EndOfTurn,
        on_next: Callable[[], None],
    ) -> None:
        self.engine = Engine(shared, self, session_id, affinity)
        self.state = replace(state, docs=documents.DocumentState(outlook=shared.outlook))
        self.record = TurnRecord()
        self.params = self._draft_params = GenerationParams()
        self.segmented = False
        self.prompt_tokens = 0
        self._sentences: Sentences | None = None
        self._items = items
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
        try:
            await self.engine.__aexit__()
        finally:
            self._apply(planner.on_answer_end(self.state, "cancelled"))
            self._set_timer(None)

    # ---- what the user does

    def text(self, text: str, revision: int) -> None:
        """The input is now ``text``."""
        self._apply(planner.on_text(self.state, text, revision, self.now()))
        self.record.first_input_s = self.state.first_input_s

    def commit(self, commit: Commit) -> None:
        """The input is final."""
        self.record.committed_at(commit.arrived_s)
        loop, now_s, limit_s = asyncio.get_running_loop(), self.now(), self._turn_timeout_s
        self._deadline = loop.call_at(now_s + limit_s, self.cancel, turn_timeout(limit_s))
        self.state = replace(self.state, loaded=self._shared.pool.loaded())
        self._limit_draft()
        said = (commit.text, commit.revision, now_s, commit.images, commit.follow)
        self._apply(planner.on_commit(self.state, *said))

    def end_unanswered(self, commit: Commit) -> None:
        """The turn was committed, and cancelled before it began."""
        self.record.committed_at(commit.arrived_s)
        self.record.committed = (Message("user", commit.text.rstrip()),)
        text, revision = commit.text, commit.revision
        self.state = replace(self.state, text=text, revision=revision, phase="resolving")
        self.cancel(commit.error)

    def cancel(self, error: ErrorInfo | None = None) -> None:
        """Stop the turn, whatever it is doing."""
        self._apply(planner.on_cancel(self.state, error))

    def expert_ready(self, expert: str) -> None:
        """An expert was loaded: prefill and drafts that waited for it may go on."""
        self.engine.expert_ready(expert)
        self._apply(planner.on_timer(self.state, self.now()))

    def change(self, change: Change) -> None:
        """Options or conversation are others from now on; go on with what stays valid."""
        self._apply(changes.on_changed(self.state, change))
        if self.state.text.strip():
            self._apply(planner.on_timer(self.state, self.now()))

    def expect(self, params: GenerationParams) -> None:
        """The answer will be, or is expected to be, sampled so; a draft that is not is lost."""
        self.params = params
        draft = self.state.draft
        if draft is None:
            return
        names = differing(self._draft_params, params)
        if names and names != ("max_tokens",):  # the commit will cut the draft, or let it go on
            self.draft_lost(draft.draft_id, f"changed: {', '.join(names)}")

    def _limit_draft(self) -> None:
        draft, wanted = self.state.draft, self.params.max_tokens
        if draft is None or self._draft_params.max_tokens == wanted:
            return
        drafts, consensus = self.engine.drafts, self.engine.consensus
        cost = drafts.limit(draft.draft_id, self._draft_params, wanted, consensus)
        if cost is None:
            self.draft_lost(draft.draft_id, "changed: max_tokens")
        else:
            self.draft_cut(cost)

    def prepare_next(self) -> None:
        """Prefill what the next turn begins with, on the expert that answered, if it is loaded.

        Most of it is in the cache: this is what the template puts around the answer, and all that
        stands behind what left the conversation.
        """
        state = self.state
        expert = state.policy.pinned or self.engine.answered_by
        unwanted = state.phase != "typing" or state.policy.mode == "off" or state.text.strip()
        if unwanted or expert is None or not state.context.history or state.context.image_count:
            return
        if self._shared.pool.ready(expert) is not None:
            messages = build(state.context, "", open_turn=True)
            budget = state.policy.max_prefill_tokens - state.tokens_spent
            self.engine.prefill(values.Prefill((expert,), messages, state.revision, budget))

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
        self, expert: str, revision: int, ready: int, total: int, computed: Computed
    ) -> None:
        """See ``engine.Listener``."""
        self.record.computed(expert, computed)
        if ready >= total:
            self.record.prefill_ready_s[expert] = self.now()
        self._apply(planner.on_prefilled(self.state, computed.tokens))
        self._outbox.put(PrefillUpdated(revision, expert, ready, total, computed.ms))

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
        self.record.draft_paused = True

    def draft_lost(self, draft_id: str, reason: str) -> None:
        """See ``engine.Listener``."""
        self._apply(planner.on_draft_lost(self.state, draft_id, reason, self.now()))

    def answer_begun(self, report: Report) -> None:
        """See ``engine.Listener``."""
        self.record.report = report

    def answer_chunk(self, chunk: Chunk) -> None:
        """See ``engine.Listener``."""
        record = self.record
        is_first = record.first_delta_s is None
        if not record.saw(chunk, self.now()):
            return
        if is_first:
            call_when_out(lambda: record.left(self.now()))
        if all(map(self._outbox.put, deltas(self.state.response_id, chunk))):
            record.showed(chunk)
            self._segment(chunk.text)
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
                self._draft_params, self.record.draft_paused = self.params, False
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
                self.engine.answers.stop(status, error)
            case values.EndTurn(status, error):
                self._end_turn(status, error)

    def _start_answer(self, action: values.Answer) -> None:
        state = self.state
        self.record.expert, self.record.degraded = action.expert, action.degraded
        self.record.documents = action.documents
        before = action.messages[: state.context.messages_before]
        own = self.record.committed = action.messages[state.context.messages_before :]
        self._sentences = Sentences() if self.segmented else None
        item_id = self._items.answer(self.record.text)
        self._outbox.put(ResponseCreated(state.response_id, state.revision, action.expert, item_id))
        self._items.tell_answer()
        expert = self._shared.pool.ready(action.expert)
        fit = None
        if expert is not None and action.draft_id is None:  # what was drafted fits
            fit = partial(self._fitted, action, expert, before, own)
        if action.draft_id is not None:
            tokens, spent = self.engine.drafts.tokens(action.draft_id)
            self.record.draft_speculated += spent
            self.record.draft_adopted += tokens
            self.record.draft_wasted += spent - tokens
            self._apply(planner.on_draft_counted(state, spent - tokens, tokens))
            self._outbox.put(DraftAdopted(action.draft_id, action.expert, state.revision, tokens))
        self.engine.answer(action, self.params, state.response_id, fit)

    async def _fitted(
        self, action: values.Answer, expert: Expert, before: Said, own: Said
    ) -> values.Answer:
        if not await self._items.fit(expert, before, own, self.params):
            return action
        return replace(action, messages=(*self.state.context.head, *self._items.messages(), *own))

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
        text = record.text()
        if self._deadline is not None:
            self._deadline.cancel()
        expert = self._shared.pool.ready(record.expert) if record.expert is not None else None
        if status != "completed":
            record.complete_usage()
        else:
            self.engine.answered_by = record.expert
            self._segment("", last=True)
            self._outbox.put(ResponseTextDone(state.response_id, text))
        self._sentences = None
        rates = self._shared.rates[record.expert] if record.expert is not None else None
        done = record.end(
            state.response_id, state.revision, status, error, now_s=self.now(), rates=rates
        )
        self._items.ended(done, record.committed, text, expert, state.context.head)
        self.engine.drafts.guess = None
        if record.expert is not None and (cached := record.cached()):
            self.engine.prime(record.expert, cached)
        elif (sent := record.sent()) is not None and record.expert is not None:
            self.engine.answered(record.expert, *sent)
        self.prompt_tokens = record.prompt_tokens
        if not lookahead.needs_documents(state):
            self._shared.outlook = documents.learned(state.docs, self._shared.outlook)
        self.record = TurnRecord()
        self.state = replace(
            self._on_end(done),
            draft_tokens_wasted=state.draft_tokens_wasted // 2,
            draft_tokens_adopted=state.draft_tokens_adopted // 2,
            habits=state.habits,
            docs=documents.DocumentState(outlook=self._shared.outlook),
        )
        self._outbox.put(done)
        self._on_next()

    def _segment(self, text: str, *, last: bool = False) -> None:
        """Let the sentences leave that are complete; the rest too behind the last text."""
        if self._sentences is None:
            return
        pieces = self._sentences.feed(text)
        if last and (rest := self._sentences.flush()):
            pieces.append(rest)
        for piece in pieces:
            if self.record.first_sentence_s is None:
                self.record.first_sentence_s = self.now()
            self._outbox.put(ResponseSentence(self.state.response_id, self.record.sentences, piece))
            self.record.sentences += 1

    def _tokens_before(self) -> int:
        messages = build(self.state.context, "", open_turn=True)
        return estimated_tokens("".join(message.content for message in messages))

    def _set_timer(self, at_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        call_at = asyncio.get_running_loop().call_at
        self._timer = None if at_s is None else call_at(at_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        due_s = self.state.timer_s or 0.0  # the loop may be early by its clock's resolution
        self._apply(planner.on_timer(self.state, max(due_s, self.now())))
