"""One conversation: its revisions, its turns, its history. The only writer of its state.

Owns the turn's state and feeds the planner; actions go to the engine, what the engine reports comes
back as planner input. Every public method is synchronous and atomic on the event loop.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace

from ..backends.base import Chunk, GenerationParams, Message, PrefillResult
from ..rag.base import RetrievalResult
from . import planner, turn
from .engine import Engine, Shared
from .errors import ErrorInfo, InvalidRequest, Overloaded, PayloadTooLarge, RevisionConflict
from .errors import from_exception as error_info
from .events import (
    DraftAdopted,
    DraftCreated,
    DraftDiscarded,
    Event,
    ExpertUpdated,
    PrefillUpdated,
    ResponseCreated,
    ResponseDone,
    ResponseTextDelta,
    ResponseTextDone,
    Status,
)
from .ledger import TurnRecord
from .outbox import Outbox
from .prompt import Context, without_documents
from .turn import Mode, Policy, TurnState


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a client may set on a session; ``pinned`` is an expert id, None = routed."""

    pinned: str | None = None
    instructions: str | None = None
    documents: tuple[str, ...] = ()
    speculation: Mode = "draft"
    retrieval: bool = False
    params: GenerationParams = GenerationParams()
    cache_salt: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of every session."""

    max_text_chars: int = 100_000
    max_queued_events: int = 2048
    turn_timeout_s: float = 300.0


class Session:
    """A live conversation; made by ``LiveMind.session`` and used as an async context manager.

    Input methods take an optional ``revision``, strictly greater than every earlier one of the
    session; without it the session counts by itself. They raise InvalidRequest, RevisionConflict or
    PayloadTooLarge and then change nothing.
    """

    def __init__(
        self,
        session_id: str,
        shared: Shared,
        policy: Policy,
        options: SessionOptions,
        limits: Limits,
        *,
        history: Sequence[Message] = (),
        admit: Callable[[], Callable[[], None]] = lambda: lambda: None,
        on_done: Callable[[ResponseDone], None] = lambda done: None,
        on_close: Callable[[Session], None] = lambda session: None,
    ) -> None:
        self.id = session_id
        self._shared = shared
        self._policy = policy
        self._options = options
        self._limits = limits
        self._history = tuple(history)
        self._admit = admit
        self._on_done = on_done
        self._on_close = on_close
        self._engine = Engine(shared, self, session_id)
        self._outbox = Outbox(limits.max_queued_events)
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._closed = False
        self._waiting_text: str | None = None
        self._release: Callable[[], None] = lambda: None
        self._revision = 0
        self._state = self._fresh_state()
        self._begin_turn(self._state)

    # ---- what the client sees

    @property
    def revision(self) -> int:
        """The newest input revision, 0 before the first."""
        return self._revision

    @property
    def text(self) -> str:
        """The input of the turn that is being typed."""
        return (self._waiting_text or "") if self.answering else self._state.text

    @property
    def answering(self) -> bool:
        """Whether a committed turn is not over yet."""
        return self._state.phase in ("resolving", "answering")

    @property
    def conversation(self) -> tuple[Message, ...]:
        """Finished turns, document blocks included."""
        return self._history

    @property
    def options(self) -> SessionOptions:
        """The options in force."""
        return self._options

    async def __aenter__(self) -> Session:
        await self._engine.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End the running turn, free the experts, close the event stream."""
        self._closed = True
        self.cancel()
        await self._engine.__aexit__()
        self._apply(planner.on_answer_end(self._state, "cancelled"))
        self._outbox.close()
        self._on_close(self)

    def update(self, options: SessionOptions, history: Sequence[Message] | None = None) -> None:
        """Replace the options, and the history if given; what they leave valid stays prepared.

        A history equal to the session's own but for document blocks changes nothing.

        Raises:
            InvalidRequest: a response is in progress.
        """
        self._refuse_while_answering()
        self._options = options
        if history is not None and tuple(history) != without_documents(self._history):
            self._history = tuple(history)
        if self._state.draft is not None:
            self._apply(planner.on_draft_lost(self._state, self._state.draft.draft_id, "update"))
        self._engine.cache_salt = options.cache_salt
        self._params = options.params
        self._state = replace(self._state, policy=self._turn_policy(), context=self._context())

    def append(self, text: str, revision: int | None = None) -> None:
        """Add typed or spoken text at the end of the input."""
        self.replace(self.text + self._checked(text), revision)

    def replace(self, text: str, revision: int | None = None) -> None:
        """Set the whole input so far: edits and corrected transcripts."""
        self._refuse_when_closed()
        text = self._checked(text)
        revision = self._next_revision(revision)
        self._revision = revision
        if self.answering:
            self._waiting_text = text
        else:
            self._record_input()
            self._apply(planner.on_text(self._state, text, revision, self._now()))

    def clear(self) -> None:
        """Forget the input."""
        self.replace("")

    def request_commit(
        self,
        text: str | None = None,
        revision: int | None = None,
        *,
        params: GenerationParams | None = None,
    ) -> str:
        """Declare the input final; the answer arrives as events. Returns the response id.

        Args:
            text: the final text, None = the input as it is.
            revision: see the class.
            params: sampling of this turn alone, None = the session's.

        Raises:
            InvalidRequest: the text is empty, or a response is in progress.
            Overloaded: too many turns are being answered.
        """
        self._refuse_when_closed()
        self._refuse_while_answering()
        final = self._checked(self.text if text is None else text)
        if not final.strip():
            raise InvalidRequest("the committed text is empty", param="text", code="empty_text")
        revision = self._next_revision(revision)
        self._release = self._admit()
        self._revision = revision
        self._waiting_text = None
        if params is not None and params != self._params:
            if self._state.draft is not None:
                lost = self._state.draft.draft_id
                self._apply(planner.on_draft_lost(self._state, lost, "sampling differs"))
            self._params = params
        self._record.commit_s = now_s = self._now()
        response_id = self._state.response_id
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_at(now_s + self._limits.turn_timeout_s, self._too_late)
        self._apply(planner.on_commit(self._state, final, revision, now_s))
        return response_id

    def cancel(self, error: ErrorInfo | None = None) -> None:
        """End the running response; without one, stop speculating. Idempotent."""
        self._apply(planner.on_cancel(self._state, error))

    def events(self) -> AsyncGenerator[Event, None]:
        """Yield every event in order until the session is closed; one reader at a time."""
        return self._outbox.read()

    async def commit(
        self, text: str | None = None, revision: int | None = None
    ) -> AsyncGenerator[Event, None]:
        """Commit and yield events up to and including this turn's ``ResponseDone``."""
        response_id = self.request_commit(text, revision)
        async for event in self._outbox.read():
            yield event
            if isinstance(event, ResponseDone) and event.response_id == response_id:
                return

    def expert_changed(self, event: ExpertUpdated) -> None:
        """Tell the client, and go on with what waited for the expert."""
        if self._closed:
            return
        self._outbox.put(event)
        if event.state == "ready" and self._state.phase == "typing":
            self._engine.expert_ready(event.expert)

    # ---- what the engine reports (engine.Listener)

    def routed(self, text: str, estimate: turn.RouteEstimate) -> None:
        """See ``engine.Listener``."""
        self._apply(planner.on_route(self._state, text, estimate, self._now()))
        route = self._state.route
        if route is not None and route.stable and self._record.route_stable_s is None:
            self._record.route_stable_s = self._now()

    def retrieved(self, text: str, result: RetrievalResult) -> None:
        """See ``engine.Listener``."""
        expert = planner.answering_expert(self._state)
        cost = self._shared.rates[expert].prefill_ms_per_token if expert is not None else None
        before = self._state.docs.frozen
        self._apply(planner.on_retrieval(self._state, text, result, cost, self._now()))
        if self._state.docs.frozen is not before:
            self._record.documents_frozen_s = self._now()

    def prefilled(
        self, expert: str, revision: int, ready: int, total: int, result: PrefillResult
    ) -> None:
        """See ``engine.Listener``."""
        self._record.prefilled[expert] += result.computed
        self._record.prefill_ready_s = self._now()
        self._apply(planner.on_prefilled(self._state, result.computed))
        self._outbox.put(PrefillUpdated(revision, expert, ready, total))

    def draft_ready(self, draft_id: str) -> None:
        """See ``engine.Listener``."""
        self._record.draft_ready_s = self._now()

    def draft_lost(self, draft_id: str, reason: str) -> None:
        """See ``engine.Listener``."""
        self._apply(planner.on_draft_lost(self._state, draft_id, reason))

    def answer_chunk(self, chunk: Chunk) -> None:
        """See ``engine.Listener``."""
        record = self._record
        record.saw(chunk)
        if not chunk.text and not chunk.logprobs:
            return
        if record.first_delta_s is None:
            record.first_delta_s = self._now()
        delta = ResponseTextDelta(
            self._state.response_id, chunk.text, chunk.token_ids, chunk.logprobs
        )
        if self._outbox.put(delta):
            record.shown.append(chunk.text)
        else:
            limit = self._limits.max_queued_events
            error = Overloaded(f"the client is {limit} events behind", code="slow_client")
            self.cancel(error_info(error))

    def answer_ended(self, status: Status, error: ErrorInfo | None) -> None:
        """See ``engine.Listener``."""
        self._apply(planner.on_answer_end(self._state, status, error))

    # ---- turns

    def _fresh_state(self) -> TurnState:
        response_id = f"resp_{uuid.uuid4().hex[:24]}"
        return TurnState(self._turn_policy(), self._context(), response_id, self._revision)

    def _begin_turn(self, state: TurnState) -> None:
        self._state = state
        self._params = self._options.params
        self._record = TurnRecord()
        self._engine.cache_salt = self._options.cache_salt

    def _turn_policy(self) -> Policy:
        options = self._options
        return replace(
            self._policy,
            mode=options.speculation,
            pinned=options.pinned or self._policy.pinned,
            retrieval=options.retrieval,
        )

    def _context(self) -> Context:
        return Context(self._options.instructions, self._history, self._options.documents)

    def _end_turn(self, status: Status, error: ErrorInfo | None) -> None:
        state, record, now_s = self._state, self._record, self._now()
        text = "".join(record.shown)
        if text and status != "failed":
            self._history += (*record.committed, Message("assistant", text))
        if status == "completed":
            self._outbox.put(ResponseTextDone(state.response_id, text))
        rates = self._shared.rates[record.expert] if record.expert is not None else None
        done = record.done(
            state.response_id, state.revision, status, error, now_s=now_s, rates=rates
        )
        self._release()
        if self._deadline is not None:
            self._deadline.cancel()
        fresh = replace(
            self._fresh_state(),
            draft_tokens_wasted=state.draft_tokens_wasted // 2,
            draft_tokens_adopted=state.draft_tokens_adopted // 2,
        )
        self._begin_turn(fresh)
        self._outbox.put(done)
        self._on_done(done)
        if self._waiting_text is not None and not self._closed:
            text, self._waiting_text = self._waiting_text, None
            self._record_input()
            self._apply(planner.on_text(self._state, text, self._revision, now_s))

    # ---- performing

    def _apply(self, step: turn.Step) -> None:
        self._state, actions = step
        for action in actions:
            self._perform(action)

    def _perform(self, action: turn.Action) -> None:
        match action:
            case turn.Emit(event):
                self._outbox.put(event)
            case turn.SetTimer(at_s):
                self._set_timer(at_s)
            case turn.Route():
                self._engine.route(action)
            case turn.Retrieve():
                self._engine.retrieve(action)
            case turn.Prefill():
                self._engine.prefill(action)
            case turn.StartDraft(draft):
                self._record.drafts += 1
                self._outbox.put(DraftCreated(draft.draft_id, draft.expert, draft.revision))
                self._engine.start_draft(draft, self._params)
            case turn.DropDraft(draft, reason):
                self._count_dropped(draft, reason)
            case turn.Answer():
                self._start_answer(action)
            case turn.StopSpeculation():
                self._engine.stop_speculation()
            case turn.StopAnswer(status, error):
                self._engine.stop_answer(status, error)
            case turn.EndTurn(status, error):
                self._end_turn(status, error)

    def _start_answer(self, action: turn.Answer) -> None:
        state = self._state
        self._record.expert, self._record.degraded = action.expert, action.degraded
        self._record.committed = self._turn_of(action)
        self._outbox.put(ResponseCreated(state.response_id, state.revision, action.expert))
        if action.draft_id is not None:
            tokens = self._engine.draft_tokens(action.draft_id)
            self._record.draft_speculated += tokens
            self._record.draft_adopted += tokens
            self._state = planner.on_draft_counted(state, 0, tokens)[0]
            adopted = DraftAdopted(action.draft_id, action.expert, state.revision, tokens)
            self._outbox.put(adopted)
        self._engine.answer(action, self._params, state.response_id)

    def _turn_of(self, action: turn.Answer) -> tuple[Message, ...]:
        """Return the committed turn's own messages: what the prompt has beyond the history."""
        before = len(self._history) + (1 if self._options.instructions else 0)
        return action.messages[before:]

    def _count_dropped(self, draft: turn.DraftState, reason: str) -> None:
        tokens = self._engine.drop_draft(draft.draft_id)
        self._record.draft_speculated += tokens
        self._record.draft_wasted += tokens
        self._state = planner.on_draft_counted(self._state, tokens, 0)[0]
        self._outbox.put(
            DraftDiscarded(draft.draft_id, draft.expert, draft.revision, tokens, reason)
        )

    def _set_timer(self, at_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at_s is not None and not self._closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(at_s, self._on_timer)

    def _too_late(self) -> None:
        limit_s = self._limits.turn_timeout_s
        self.cancel(ErrorInfo(504, f"no answer within {limit_s:g} s", "timeout", None, "timeout"))

    def _on_timer(self) -> None:
        self._timer = None
        due_s = self._state.timer_s or 0.0  # the loop may be early by its clock's resolution
        self._apply(planner.on_timer(self._state, max(due_s, self._now())))

    # ---- checks

    def _record_input(self) -> None:
        if self._record.first_input_s is None:
            self._record.first_input_s = self._now()

    def _checked(self, text: str) -> str:
        limit = self._limits.max_text_chars
        if len(text) > limit:
            raise PayloadTooLarge(
                f"text: {len(text)} characters, the limit is {limit}",
                param="text",
                code="text_too_long",
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(
                "text: not valid Unicode (a lone surrogate)", param="text"
            ) from None
        return text

    def _next_revision(self, revision: int | None) -> int:
        if revision is None:
            return self._revision + 1
        if revision <= self._revision:
            raise RevisionConflict(
                f"revision: got {revision}, need more than {self._revision}", param="revision"
            )
        return revision

    def _refuse_while_answering(self) -> None:
        if self.answering:
            raise InvalidRequest(
                "a response is in progress; cancel it or wait for response.done",
                code="response_in_progress",
            )

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise InvalidRequest("the session is closed", code="session_closed")

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def new_session_id() -> str:
    """Return an id that cannot be guessed."""
    return f"sess_{uuid.uuid4().hex}"
