"""One conversation as its client sees it: input with revisions, options, items, events.

Owns what outlives a turn and refuses bad input. `turn/loop.py` runs the turns. Every public method
but ``events`` and ``commit`` is synchronous and atomic on the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from secrets import token_hex

from msgspec.structs import replace

from ..backends.base import GenerationParams, Image, Message
from ..backends.remote.affinity import digest
from .errors import ErrorInfo, InvalidRequest
from .event_queue import Outbox
from .events import Event, ExpertUpdated, ResponseDone
from .input_checks import check_not_empty, checked_text, next_revision
from .item_events import InputIgnored
from .items import SessionItems
from .options import Limits as Limits, SessionOptions as SessionOptions, changed, in_force
from .turn import changes
from .turn.loop import TurnLoop
from .turn.prompt import Context
from .turn.shared import Shared
from .turn.transcripts import CommittedTurns
from .turn.values import Policy, TurnState
from .waiting import Commit, Update, Waiting


class Session:
    """A live conversation; made by ``LiveMind.session`` and used as an async context manager.

    Input methods take an optional ``revision``, greater than every earlier one; without it the
    session counts. They raise InvalidRequest, RevisionConflict or PayloadTooLarge and then change
    nothing. ``turn_id`` says which turn a text belongs to: a response id, or the number of turns
    committed before it; text of a committed turn is passed over (``input_text.ignored``).
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
        self._shared = shared
        self._policy = policy
        self._options = self._in_force = options
        self._limits = limits
        self._expected = options.params
        self._admit = admit
        self._release: Callable[[], None] = lambda: None
        self._on_done, self._on_close = on_done, on_close
        self._revision = 0
        self._open = self._closed = False
        self._next_id = f"resp_{token_hex(12)}"
        self._turns = CommittedTurns()
        self._waiting = Waiting()
        self._outbox = Outbox(limits.max_queued_events, limits.max_queued_bytes)
        self._items = SessionItems(
            limits.conversation,
            history,
            self._outbox,
            limits.max_text_chars,
            on_change=self._conversation_changed,
            stop_answer=lambda: self.cancel(response_id=self._loop.state.response_id),
        )
        self._loop = TurnLoop(
            shared,
            session_id,
            affinity or digest(session_id),  # servers are not told what opens the session
            self._outbox,
            limits.turn_timeout_s,
            self._fresh(),
            self._items,
            self._ended,
            self._go_on,
        )
        self._put_in_force()

    # ---- what is known

    @property
    def revision(self) -> int:
        """The newest input revision, 0 before the first."""
        return self._revision

    @property
    def turns(self) -> int:
        """How many turns were committed: the number of the one that is being typed."""
        return self._turns.count

    @property
    def turn_id(self) -> str:
        """The response id that the turn being typed will have."""
        return self._next_id if self.answering else self._loop.state.response_id

    @property
    def text(self) -> str:
        """The input of the turn that is being typed."""
        return (self._waiting.text or "") if self.answering else self._loop.state.text

    @property
    def answering(self) -> bool:
        """Whether a committed turn is not over yet."""
        return self._loop.state.phase in ("resolving", "answering") or self._waiting.has_commit

    @property
    def items(self) -> SessionItems:
        """The items of the conversation, to look at and to change."""
        return self._items

    @property
    def conversation(self) -> tuple[Message, ...]:
        """What the model sees of finished turns, document blocks included."""
        return self._items.messages()

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the newest prompt that was answered; 0 before it was rendered."""
        return self._loop.record.prompt_tokens or self._loop.prompt_tokens

    @property
    def options(self) -> SessionOptions:
        """The newest options; those of a turn that is being answered may be older."""
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
        """Replace the options, and the conversation if given; what they leave valid stays prepared.

        While a turn is answered they are for the next one, and the conversation is replaced when
        that begins. What a replaced conversation shares with the old one keeps its ids and the
        passages that were found for it.

        Raises:
            InvalidRequest: more messages than the configuration's ``conversation`` allows.
        """
        messages = None if history is None else tuple(history)
        if messages is not None:
            self._items.check(messages)
        self._options = options
        take = self._waiting.put if self.answering else self._change
        take(Update(options, messages))

    def append(
        self, text: str, revision: int | None = None, *, turn_id: str | int | None = None
    ) -> None:
        """Add typed or spoken text at the end of the input."""
        self._take(self.text + text, text, revision, turn_id)

    def replace(
        self, text: str, revision: int | None = None, *, turn_id: str | int | None = None
    ) -> None:
        """Set the whole input so far: edits and corrected transcripts.

        The committed text once more, right after its commit and but for case, blanks and
        punctuation, is a late transcript: it is passed over, unless a commit without text follows.
        """
        self._take(text, text, revision, turn_id)

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
        item_id: str | None = None,
        follow: Sequence[Message] = (),
        arrived_s: float | None = None,
    ) -> str:
        """Declare the input final; the answer arrives as events. Returns the response id.

        A running answer is cancelled, and this turn begins as soon as its expert is free.

        Args:
            text: the final text, None = the input as it is.
            revision: see the class.
            params: sampling of this turn and, as is expected, the next; None = the session's.
            images: stand before the text; only an expert that takes images may answer.
            item_id: of the proposed item (``items.propose``) whose text this is, None = a new one.
            follow: what stands behind the text in this turn: calls of tools and their results.
            arrived_s: by the event loop's clock, where ``Timings`` begin; None = now.

        Raises:
            InvalidRequest: the text is empty, and nothing follows or is shown.
            Overloaded: too many turns are being answered or wait, events are not read, or the
                conversation is full and nothing may leave it.
        """
        self._refuse_when_closed()
        typed = self.text or self._turns.late_text
        final = checked_text(typed if text is None else text, self._limits.max_text_chars)
        check_not_empty(final, *follow, *images)
        revision = next_revision(self._revision, revision)
        self._outbox.refuse_unread()
        self._waiting.refuse_too_many()
        self._items.settle(keep=item_id)
        made_room = self._items.make_room(len(final) + sum(len(said.content) for said in follow))
        if not self.answering:
            self._release = self._admit()
        self._revision = revision
        arrived_s = self._loop.now() if arrived_s is None else arrived_s
        commit = Commit(
            self.turn_id, final, revision, params, (*images,), arrived_s, item_id, (*follow,)
        )
        self._items.claim(item_id)
        self._turns.committed(commit.response_id, final, arrived_s)
        if self.answering:
            self._next_id = f"resp_{token_hex(12)}"
            self._waiting.put(commit)
            self._loop.cancel()
            return commit.response_id
        if made_room:
            self._prepare(("messages",))
        self._begin(commit)
        return commit.response_id

    def cancel(self, error: ErrorInfo | None = None, *, response_id: str | None = None) -> None:
        """End the running response; without one, stop speculating. Idempotent.

        ``response_id``: end that one alone, and do nothing if it is over.
        """
        self._waiting.call_off(response_id, error)
        if response_id in (None, self._loop.state.response_id):
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

    def _take(self, text: str, said: str, revision: int | None, turn_id: str | int | None) -> None:
        self._refuse_when_closed()
        text, turns = checked_text(text, self._limits.max_text_chars), self._turns
        is_over = turns.has(turn_id, self.turn_id)
        self._revision = next_revision(self._revision, revision)
        if is_over:
            self._outbox.put(InputIgnored(self._revision, "turn_over"))
            return
        repeated = turns.repeats(said, self._loop.now(), answering=self.answering)
        if repeated and turn_id is None and not self.text:
            turns.late_text = said
            self._outbox.put(InputIgnored(self._revision, "late_transcript"))
            return
        if text.strip():
            turns.new_text()
        if not self.answering:
            self._loop.text(text, self._revision)
            return
        self._waiting.text = text
        if self._options.interrupted_by == "input" and text.strip():
            self.cancel()

    def _begin(self, commit: Commit) -> None:
        """Answer what was committed, or end it where something newer was."""
        self._items.ask(commit.text.rstrip(), commit.images, commit.item_id, commit.follow)
        if self._closed or commit.called_off or self._waiting.has_commit:
            self._loop.end_unanswered(commit)
            return
        params = commit.params or self._in_force.params
        self._loop.expect(params)
        self._expected = replace(params, prediction=None)
        self._loop.commit(commit)

    def _ended(self, done: ResponseDone) -> TurnState:
        self._on_done(done)
        return self._fresh()

    def _go_on(self) -> None:
        """The turn's last event has left: begin with what waited for that."""
        self._put_in_force()
        while (waiting := self._waiting.take()) is not None:
            if isinstance(waiting, Commit):
                self._begin(waiting)
                return
            self._change(waiting)
        self._release()
        self._release = lambda: None
        if self._closed:
            return
        if (text := self._waiting.take_text()) is not None:
            self._loop.text(text, self._revision)
        elif self._in_force.between_turns:
            self._loop.prepare_next()

    def _fresh(self) -> TurnState:
        response_id = self._waiting.next_response_id
        if response_id is None:
            response_id, self._next_id = self._next_id, f"resp_{token_hex(12)}"
        policy = in_force(self._in_force, self._policy)
        return TurnState(policy, self._context(), response_id, self._revision)

    # ---- options in force

    def _change(self, update: Update) -> None:
        before, self._in_force = self._in_force, update.options
        fields = changed(before, update.options)
        if (params := update.options.params) != before.params:
            self._expected = params
        if update.messages is not None and self._items.replace(update.messages):
            fields = (*fields, "messages")
        if fields:
            self._put_in_force()
            self._prepare(fields)

    def _prepare(self, fields: tuple[str, ...]) -> None:
        """Prepare for what is new: these fields, or ``messages`` of the conversation."""
        policy, context = in_force(self._in_force, self._policy), self._context()
        self._loop.change(changes.change(policy, context, fields))
        if self._in_force.between_turns:
            self._loop.prepare_next()

    def _put_in_force(self) -> None:
        options, engine = self._in_force, self._loop.engine
        engine.put_in_force(options.cache_salt, options.consensus, options.instructions)
        self._loop.segmented = options.segment == "sentence"
        self._loop.expect(self._expected)

    def _conversation_changed(self) -> None:
        """The next turn's prompt has another beginning; that of a running one stays as it is."""
        if not self.answering:
            self._prepare(("messages",))

    def _context(self) -> Context:
        told, said = self._in_force, self._items.messages()
        return Context(told.instructions, said, told.documents, template=told.template)

    def _refuse_when_closed(self) -> None:
        if self._closed or not self._open:
            raise InvalidRequest("the session is not open", code="session_closed")
