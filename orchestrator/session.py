"""One conversation as its client sees it: input with revisions, options, history, events.

Owns what outlives a turn and refuses bad input. `turn/loop.py` runs the turns. Every public method
but ``events`` and ``commit`` is synchronous and atomic on the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from secrets import token_hex

from msgspec import Struct, field
from msgspec.structs import replace

from ..backends.base import GenerationParams, Image, Message
from .consensus.choice import Consensus
from .errors import ErrorInfo, InvalidRequest, Overloaded, PayloadTooLarge, RevisionConflict
from .events import Event, ExpertUpdated, ResponseDone
from .turn.documents import Consistency, DocumentState
from .turn.loop import TurnLoop
from .turn.outbox import Outbox
from .turn.partials import InputKind
from .turn.prompt import Context, without_documents
from .turn.shared import Shared
from .turn.values import Mode, OnCold, Policy, TranscriptsEqual, TurnState


class SessionOptions(Struct, frozen=True):
    """What a client may set on a session.

    Attributes:
        pinned: an expert id, None = routed.
        instructions: system message.
        documents: passages that stand before the user's text in every turn.
        cache_salt: sessions with different salts share no prefix cache.
        consensus: how answers are settled.
        on_cold: whether the fast expert answers for one that is not loaded; None = as configured.
        input_kind: whether the text comes from a keyboard or a recogniser; None = found from its
            first changes. A recogniser's words are whole, its marks end no sentence.
        transcripts_equal: ``formatted`` = a draft may answer a final text that differs from its
            own in case, marks and blanks alone: the model then saw the other writing.
        consistency: whether the answer gets the committed text's own documents or those that were
            prepared; None = as configured.
    """

    pinned: str | None = None
    instructions: str | None = None
    documents: tuple[str, ...] = ()
    speculation: Mode = "draft"
    retrieval: bool = False
    params: GenerationParams = field(default_factory=GenerationParams)
    cache_salt: str | None = None
    consensus: Consensus = field(default_factory=Consensus)
    on_cold: OnCold | None = None
    input_kind: InputKind | None = None
    transcripts_equal: TranscriptsEqual = "exact"
    consistency: Consistency | None = None


class Limits(Struct, frozen=True):
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
        affinity: str | None = None,
        admit: Callable[[], Callable[[], None]] = lambda: lambda: None,
        on_done: Callable[[ResponseDone], None] = lambda done: None,
        on_close: Callable[[Session], None] = lambda session: None,
    ) -> None:
        self.id = session_id
        self._policy = policy
        self._options = options
        self._limits = limits
        self._turn_policy = self._policy_in_force()
        self._history = tuple(history)
        self._admit = admit
        self._release: Callable[[], None] = lambda: None
        self._on_done = on_done
        self._on_close = on_close
        self._revision = 0
        self._open = self._closed = False
        self._waiting_text: str | None = None
        self._outbox = Outbox(limits.max_queued_events)
        self._loop = TurnLoop(
            shared,
            session_id,
            affinity or session_id,
            self._outbox,
            limits.turn_timeout_s,
            self._fresh(),
            self._ended,
            self._type_what_waited,
        )
        self._loop.params = options.params
        self._loop.engine.cache_salt = options.cache_salt
        self._loop.engine.consensus = options.consensus

    # ---- what is known

    @property
    def revision(self) -> int:
        """The newest input revision, 0 before the first."""
        return self._revision

    @property
    def text(self) -> str:
        """The input of the turn that is being typed."""
        return (self._waiting_text or "") if self.answering else self._loop.state.text

    @property
    def answering(self) -> bool:
        """Whether a committed turn is not over yet."""
        return self._loop.state.phase in ("resolving", "answering")

    @property
    def conversation(self) -> tuple[Message, ...]:
        """Finished turns, document blocks included."""
        return self._history

    @property
    def options(self) -> SessionOptions:
        """The options in force."""
        return self._options

    async def __aenter__(self) -> Session:
        await self._loop.engine.__aenter__()
        self._open = True
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End the running turn, free the experts, close the event stream."""
        self._closed = True
        try:
            await self._loop.close()
        finally:
            self._outbox.close()
            self._on_close(self)

    # ---- input

    def update(self, options: SessionOptions, history: Sequence[Message] | None = None) -> None:
        """Replace the options, and the history if given; what they leave valid stays prepared.

        A history equal to the session's own but for document blocks changes nothing.

        Raises:
            InvalidRequest: a response is in progress.
        """
        self._refuse_while_answering()
        same = options == self._options
        other_retrieval = options.retrieval != self._options.retrieval
        self._options = options
        self._turn_policy = self._policy_in_force()
        if history is not None and tuple(history) != without_documents(self._history):
            self._history, same = tuple(history), False
        if same:
            return
        loop = self._loop
        loop.stop_speculation()
        loop.params = options.params
        loop.engine.cache_salt = options.cache_salt
        loop.engine.consensus = options.consensus
        docs = DocumentState() if other_retrieval else loop.state.docs
        loop.state = replace(
            loop.state, policy=self._turn_policy, context=self._context(), docs=docs
        )

    def append(self, text: str, revision: int | None = None) -> None:
        """Add typed or spoken text at the end of the input."""
        self.replace(self.text + text, revision)

    def replace(self, text: str, revision: int | None = None) -> None:
        """Set the whole input so far: edits and corrected transcripts."""
        self._refuse_when_closed()
        text = self._checked(text)
        self._revision = self._next_revision(revision)
        if self.answering:
            self._waiting_text = text
        else:
            self._loop.text(text, self._revision)

    def clear(self) -> None:
        """Forget the input."""
        self.replace("")

    def request_commit(
        self,
        text: str | None = None,
        revision: int | None = None,
        *,
        params: GenerationParams | None = None,
        images: Sequence[Image] = (),
    ) -> str:
        """Declare the input final; the answer arrives as events. Returns the response id.

        Args:
            text: the final text, None = the input as it is.
            revision: see the class.
            params: sampling of this turn alone, None = the session's.
            images: stand before the text; only an expert that takes images may answer.

        Raises:
            InvalidRequest: the text is empty, or a response is in progress.
            Overloaded: too many turns are being answered, or events are not read.
        """
        self._refuse_when_closed()
        self._refuse_while_answering()
        final = self._checked(self.text if text is None else text)
        if not final.strip():
            raise InvalidRequest("the committed text is empty", param="text", code="empty_text")
        revision = self._next_revision(revision)
        if self._outbox.full:
            raise Overloaded("the client reads too slowly", code="slow_client", retry_after_s=1.0)
        self._release = self._admit()
        self._revision = revision
        if params is not None:
            if params != self._loop.params:
                self._loop.lose_draft("sampling differs")
            self._loop.params = params
        response_id = self._loop.state.response_id
        self._loop.commit(final, revision, tuple(images))
        return response_id

    def cancel(self, error: ErrorInfo | None = None) -> None:
        """End the running response; without one, stop speculating. Idempotent."""
        self._loop.cancel(error)

    def expert_changed(self, event: ExpertUpdated) -> None:
        """Tell the client, and go on with what waited for the expert."""
        if self._closed:
            return
        self._outbox.put(event)
        if event.state == "ready" and self._loop.state.phase == "typing":
            self._loop.expert_ready(event.expert)

    # ---- output

    async def next_event(self) -> Event | None:
        """Return the next event, None once the session is closed; one reader at a time."""
        return await self._outbox.get()

    def events(self) -> AsyncGenerator[Event, None]:
        """Yield every event in order until the session is closed; one reader at a time."""
        return self._outbox.read()

    def commit(
        self,
        text: str | None = None,
        revision: int | None = None,
        *,
        images: Sequence[Image] = (),
    ) -> AsyncGenerator[Event, None]:
        """Commit now; return what yields events up to and including this turn's ``ResponseDone``.

        Whoever does not iterate has committed all the same: the events then stay in the session's
        stream, for ``events`` or ``next_event``.

        Raises:
            InvalidRequest, Overloaded: as ``request_commit``, at the call.
        """
        return self._turn_events(self.request_commit(text, revision, images=images))

    async def _turn_events(self, response_id: str) -> AsyncGenerator[Event, None]:
        async with aclosing(self._outbox.read()) as events:
            async for event in events:
                yield event
                if isinstance(event, ResponseDone) and event.response_id == response_id:
                    return

    # ---- turns

    def _ended(self, done: ResponseDone, committed: tuple[Message, ...], text: str) -> TurnState:
        if text and committed:
            self._history += (*committed, Message("assistant", text))
        self._release()
        self._on_done(done)
        self._loop.params = self._options.params
        return self._fresh()

    def _type_what_waited(self) -> None:
        if self._waiting_text is not None and not self._closed:
            text, self._waiting_text = self._waiting_text, None
            self._loop.text(text, self._revision)

    def _fresh(self) -> TurnState:
        response_id = f"resp_{token_hex(12)}"
        return TurnState(self._turn_policy, self._context(), response_id, self._revision)

    def _policy_in_force(self) -> Policy:
        options = self._options
        return replace(
            self._policy,
            mode=options.speculation,
            pinned=options.pinned or self._policy.pinned,
            retrieval=options.retrieval,
            on_cold=options.on_cold or self._policy.on_cold,
            input_kind=options.input_kind,
            transcripts_equal=options.transcripts_equal,
            consistency=options.consistency or self._policy.consistency,
        )

    def _context(self) -> Context:
        return Context(self._options.instructions, self._history, self._options.documents)

    # ---- checks

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
        if self._closed or not self._open:
            raise InvalidRequest("the session is not open", code="session_closed")


def new_session_id() -> str:
    """Return an id that cannot be guessed."""
    return f"sess_{token_hex(16)}"
