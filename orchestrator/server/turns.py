"""One turn for an HTTP request: in a session of its own, or in a live one that prepared it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from ..errors import ErrorInfo, LiveMindError, Unavailable
from ..events import Event, ResponseCreated, ResponseDone
from ..prompt import without_documents
from .live_session import LiveSession
from .mailbox import Mailbox, MailboxClosed, MailboxFull
from .middleware import TurnFailed
from .schema import ChatRequest
from .state import ServerState

SESSION_HEADER = "X-LiveMind-Session"
CANCEL_TIMEOUT_S = 5.0


class Turn:
    """A committed turn. Leaving ``open_turn`` cancels it if it has not ended."""

    def __init__(self, live: LiveSession, mailbox: Mailbox[Event], response_id: str) -> None:
        self.expert: str | None = None
        self.done: ResponseDone | None = None
        self._live = live
        self._mailbox = mailbox
        self._response_id = response_id

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield this turn's response events; the last one is a completed ResponseDone.

        Raises:
            TurnFailed: the turn failed or was cancelled.
            ConnectionResetError: the client read so slowly that the event limit was reached.
            LiveMindError: the session ended before the turn did.
        """
        while self.done is None:
            event = await self._next()
            if getattr(event, "response_id", None) != self._response_id:
                continue
            if isinstance(event, ResponseCreated):
                self.expert = event.expert
            elif isinstance(event, ResponseDone):
                self.done = event
                self.expert = event.expert or self.expert
                if event.status != "completed":
                    raise TurnFailed(event.error or _cancelled())
            yield event

    async def end(self) -> None:
        """Cancel the turn unless it has ended, and wait for its end."""
        if not self._live.is_open(self._response_id):
            return
        with suppress(TimeoutError, LiveMindError):
            self._live.session.cancel()
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                await self._live.idle.wait()

    async def _next(self) -> Event:
        try:
            return await self._mailbox.get()
        except MailboxFull:
            raise ConnectionResetError("the client reads too slowly") from None
        except MailboxClosed as exc:
            if isinstance(exc.reason, LiveMindError):
                raise exc.reason from None
            raise Unavailable("the session ended before the answer was complete") from None


@asynccontextmanager
async def open_turn(
    state: ServerState, body: ChatRequest, *, owner: str | None, session_id: str | None
) -> AsyncIterator[Turn]:
    """Commit the request's last message and yield the turn.

    Args:
        state: of the application.
        body: the request.
        owner: of the API key.
        session_id: a live session whose preparation is adopted, or None.

    Raises:
        NotFound: unknown model or session.
        Overloaded: a limit is reached.
    """
    if session_id is None:
        live = await _open(state, body, owner)
    else:
        live = state.registry.find(session_id, owner, param=SESSION_HEADER)
        _adopt(state, live, body)
    mailbox: Mailbox[Event] = Mailbox(state.limits.max_queued_events)
    try:
        with live.listen(mailbox):
            params = body.params(live.session.options.params)
            turn = Turn(live, mailbox, live.commit(body.text, None, params))
            try:
                yield turn
            finally:
                await turn.end()
    finally:
        if session_id is None:
            await state.registry.close(live)


async def _open(state: ServerState, body: ChatRequest, owner: str | None) -> LiveSession:
    return await state.registry.open(
        findable=False,
        owner=owner,
        model=state.resolve_model(body.model),
        instructions=body.instructions,
        history=body.history,
        documents=tuple(body.documents or ()),
        speculation=body.speculation,
        retrieval=body.retrieval,
        cache_salt=body.cache_salt,
        consensus=None if body.consensus is None else body.consensus.onto(state.mind.consensus),
        on_cold=body.on_cold,
        affinity=body.user,
    )


def _adopt(state: ServerState, live: LiveSession, body: ChatRequest) -> None:
    """Give the live session what the request says, so that the request decides the answer."""
    options, given = live.session.options, body.consensus
    options = state.mind.options(
        options,
        model=options.pinned if body.model is None else state.resolve_model(body.model),
        retrieval=options.retrieval if body.retrieval is None else body.retrieval,
        consensus=options.consensus if given is None else given.onto(live.defaults.consensus),
    )
    if body.instructions is not None:
        options = replace(options, instructions=body.instructions)
    if body.on_cold is not None:
        options = replace(options, on_cold=body.on_cold)
    if body.speculation is not None:
        options = replace(options, speculation=body.speculation)
    if body.cache_salt is not None:
        options = replace(options, cache_salt=body.cache_salt)
    if body.documents is not None:
        options = replace(options, documents=tuple(body.documents))
    spoken = without_documents(live.session.conversation)
    if options != live.session.options or body.history != spoken:
        live.session.update(options, body.history)


def _cancelled() -> ErrorInfo:
    return ErrorInfo(499, "the response was cancelled", "cancelled", None, "cancelled")
