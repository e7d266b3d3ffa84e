"""One session at work in the server: who listens to it, and the newest of each kind of status.

The task that owns it lives in ``registry.py``. All methods belong to the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ....backends.base import GenerationParams, Image, Message
from ...errors import InvalidRequest, LiveMindError
from ...event_queue import EventQueue
from ...events import (
    DraftAdopted,
    DraftCreated,
    DraftDiscarded,
    Event,
    PrefillUpdated,
    ResponseDone,
    RetrievalUpdated,
    RouteUpdated,
)
from ..tracing.arrival import arrived_s
from ..tracing.traces import turn_trace
from .answers import DraftStatus, SessionStatus

if TYPE_CHECKING:
    from ...session import Session, SessionOptions


SESSION_HEADER = "X-LiveMind-Session"
"""Names a live session, in requests and in answers."""
STATUS_HEADER = "X-LiveMind-Session-Status"
"""What became of it: ``adopted``, ``lost``, or ``moving`` where its server leaves."""


class LiveSession:
    """A ``Session`` with its listeners and its status.

    Attributes:
        session: the session itself.
        owner: who opened it: a digest of the API key, None without keys.
        configured: a ``session.update`` was seen.
        idle: set while no committed turn is open.
        last_used_s: loop time of the last client action or end of a turn.
        defaults: the options it was opened with.
        end_reason: why it ended, None = ordinarily.
    """

    def __init__(self, session: Session, *, owner: str | None) -> None:
        self.session = session
        self.owner = owner
        self.configured = False
        self.idle = asyncio.Event()
        self.idle.set()
        self.last_used_s = asyncio.get_running_loop().time()
        self.end_reason: LiveMindError | None = None
        self.defaults = session.options
        self._listeners: set[EventQueue[Any]] = set()
        self._forget_status()
        self._open_turns: dict[str, asyncio.Event] = {}
        self._ended = False
        self._trace = turn_trace.get()
        if self._trace is not None:
            self._trace.of_session(session.id)

    @property
    def id(self) -> str:
        """The session's id."""
        return self.session.id

    def touch(self) -> None:
        """Note that a client used the session now."""
        self.last_used_s = asyncio.get_running_loop().time()

    def configure(self, options: SessionOptions, history: Sequence[Message] | None = None) -> None:
        """Put options, and a conversation if one is given, in force, from the next turn on.

        Raises:
            InvalidRequest: the conversation is too long.
        """
        self.touch()
        self.session.update(options, history)
        self.configured = True

    def commit(
        self,
        text: str | None,
        revision: int | None,
        params: GenerationParams | None = None,
        images: Sequence[Image] = (),
        item_id: str | None = None,
        follow: Sequence[Message] = (),
    ) -> str:
        """Commit the turn and return its response id; it stays open until its ResponseDone."""
        self.touch()
        response_id = self.session.request_commit(
            text,
            revision,
            params=params,
            images=images,
            item_id=item_id,
            follow=follow,
            arrived_s=arrived_s.get(),
        )
        self._open_turns[response_id] = asyncio.Event()
        self.idle.clear()
        if self._trace is not None:
            self._trace.committed(response_id, turn_trace.get())
        return response_id

    def is_open(self, response_id: str) -> bool:
        """Tell whether this turn was committed and its ResponseDone has not come."""
        return response_id in self._open_turns

    async def ended(self, response_id: str) -> None:
        """Return once this turn's ResponseDone has come, at once if it is not open."""
        if (over := self._open_turns.get(response_id)) is not None:
            await over.wait()

    def cancel(self, response_id: str | None = None) -> None:
        """Cancel the running response, or this one.

        Raises:
            InvalidRequest: it is not running.
        """
        self.touch()
        if self.idle.is_set() or (response_id is not None and not self.is_open(response_id)):
            message = "no such response is running" if response_id else "no response is running"
            raise InvalidRequest(message, code="response_not_active")
        self.session.cancel(response_id=response_id)

    @contextmanager
    def listen(self, queue: EventQueue[Any]) -> Iterator[None]:
        """Put every further event into ``queue`` and close it when the session ends."""
        if self._ended:
            queue.close(self.end_reason)
        self._listeners.add(queue)
        try:
            yield
        finally:
            self._listeners.discard(queue)

    def dispatch(self, event: Event) -> None:
        """Keep what the status shows and hand the event to the listeners, in order."""
        self._remember(event)
        for queue in tuple(self._listeners):
            queue.put_or_close(event)

    def end(self) -> None:
        """Close the listeners: no event will come any more."""
        self._ended = True
        if self._trace is not None:
            self._trace.closed()
        for over in self._open_turns.values():
            over.set()
        self._open_turns.clear()
        self.idle.set()
        for queue in tuple(self._listeners):
            queue.close(self.end_reason)

    def status(self) -> SessionStatus:
        """Return revision, route, retrieval, prefill and draft as they stand."""
        return SessionStatus(
            id=self.id,
            revision=self.session.revision,
            turn_id=self.session.turn_id,
            turn=self.session.turns,
            items=len(self.session.items),
            response_running=not self.idle.is_set(),
            route=self._route,
            retrieval=self._retrieval,
            prefill=self._prefill,
            draft=self._draft,
        )

    def _forget_status(self) -> None:
        self._route: RouteUpdated | None = None
        self._retrieval: RetrievalUpdated | None = None
        self._prefill: PrefillUpdated | None = None
        self._draft: DraftStatus | None = None

    def _remember(self, event: Event) -> None:
        match event:
            case RouteUpdated():
                self._route = event
            case RetrievalUpdated():
                self._retrieval = event
            case PrefillUpdated():
                self._prefill = event
            case DraftCreated():
                self._draft = DraftStatus(event.draft_id, event.expert, event.revision, "created")
            case DraftAdopted(draft_id=draft_id, expert=expert, revision=revision, tokens=tokens):
                self._draft = DraftStatus(draft_id, expert, revision, "adopted", tokens)
            case DraftDiscarded():
                self._draft = None
            case ResponseDone():
                self._forget_status()
                if (over := self._open_turns.pop(event.response_id, None)) is not None:
                    over.set()
                self.touch()
                if not self._open_turns:
                    self.idle.set()
