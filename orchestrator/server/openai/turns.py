"""One turn for an HTTP request: in a session of its own, or in a live one that prepared it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Self

from msgspec.structs import replace

from ....backends.base import Image
from ...errors import ErrorInfo, LiveMindError, Unavailable
from ...event_queue import EventQueue
from ...events import Delta, Event, ResponseCreated, ResponseDone
from ...session import Session
from ..live.session import LiveSession
from ..middleware import TurnFailed
from ..state import ServerState
from ..tracing.arrival import arrived_s
from .alone import Params
from .bodies import ChatRequest

CANCEL_TIMEOUT_S = 5.0


class Turn:
    """A committed turn: an iterator over the text of its answer.

    Args:
        response_id: of the turn.
        receive: returns the session's next event, None at its end; it may raise what
            ``__anext__`` says.
        session: whose turn it is; tells of the prompt.

    Attributes:
        expert: who answers, None until that is known.
        done: the turn's end, whatever its status; None before it.
    """

    def __init__(
        self,
        response_id: str,
        receive: Callable[[], Awaitable[Event | None]],
        session: Session | None = None,
    ) -> None:
        self.expert: str | None = None
        self.done: ResponseDone | None = None
        self._response_id = response_id
        self._receive = receive
        self._session = session

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt; 0 before it was rendered."""
        if self.done is not None and self.done.usage is not None:
            return self.done.usage.prompt_tokens
        return 0 if self._session is None else self._session.prompt_tokens

    async def free(self) -> None:
        """Let the expert go, which a session does by itself when an answer ends."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        """Return the next piece of the answer.

        Raises:
            TurnFailed: the turn failed or was cancelled.
            Overloaded: the client read so slowly that the event limit was reached.
            LiveMindError: the session ended before the turn did.
        """
        while self.done is None:
            event = await self._receive()
            if event is None:
                raise Unavailable("the session ended before the answer was complete")
            if getattr(event, "response_id", None) != self._response_id:
                continue
            if isinstance(event, Delta):
                return event
            if isinstance(event, ResponseCreated):
                self.expert = event.expert
            elif isinstance(event, ResponseDone):
                self.done = event
                self.expert = event.expert or self.expert
                if event.status != "completed":
                    raise TurnFailed(event.error or _cancelled())
        raise StopAsyncIteration


@asynccontextmanager
async def adopting_turn(
    state: ServerState, body: ChatRequest, live: LiveSession, images: Mapping[str, Image]
) -> AsyncIterator[Turn]:
    """Commit the request's last message in the live session that prepared for it.

    ``images``: of all URLs. An answer of the session that is still running is cancelled first.
    Leaving the block cancels the turn if it has not ended.

    Raises:
        NotFound: unknown model.
        InvalidRequest: the conversation is too long.
        Overloaded: a limit is reached.
    """
    _adopt(state, live, body, images)
    queue: EventQueue[Event] = EventQueue(
        state.limits.max_queued_events, state.limits.max_queued_bytes
    )
    with live.listen(queue):
        params = body.params(live.session.options.params)
        shown, follow = body.images(images), body.follow(images)
        response_id = live.commit(body.text, None, params, shown, follow=follow)
        try:
            yield Turn(response_id, queue.get, live.session)
        finally:
            await _end(live, response_id)


@asynccontextmanager
async def own_turn(
    state: ServerState,
    body: ChatRequest,
    params_of: Params | None = None,
    *,
    affinity: str | None = None,
) -> AsyncIterator[Turn]:
    """Commit the user's last message in a session that lives in the request's own task.

    ``params_of``: makes the parameters of the session's; None = as the body says. ``affinity``: see
    ``chat_alone``. Leaving the block ends the session, and with it the turn, which is counted then.

    Raises:
        NotFound: unknown model.
        InvalidRequest: an image that cannot be used.
        Overloaded: a limit is reached.
    """
    images = await state.images.load(body.image_urls)
    session = state.mind.session(
        model=body.model,
        instructions=body.instructions,
        history=body.history(images),
        documents=body.documents or (),
        speculation=body.speculation,
        retrieval=body.retrieval,
        cache_salt=body.cache_salt,
        consensus=None if body.consensus is None else body.consensus.onto(state.mind.consensus),
        on_cold=body.on_cold,
        affinity=affinity,
        one_turn=True,
        template=body.template,
    )

    async def receive() -> Event | None:
        if (event := await session.next_event()) is not None:
            state.metrics.event(event)
        return event

    try:
        async with session:
            params = (params_of or body.params)(session.options.params)
            response_id = session.request_commit(
                body.text,
                params=params,
                images=body.images(images),
                follow=body.follow(images),
                arrived_s=arrived_s.get(),
            )
            await asyncio.sleep(0)  # the expert is asked before the answer is made ready
            yield Turn(response_id, receive, session)
    finally:
        while await receive() is not None:  # what nobody read any more
            pass


async def _end(live: LiveSession, response_id: str) -> None:
    """Cancel the turn unless it has ended, and wait for its end."""
    if not live.is_open(response_id):
        return
    with suppress(TimeoutError, LiveMindError):
        live.session.cancel(response_id=response_id)
        async with asyncio.timeout(CANCEL_TIMEOUT_S):
            await live.ended(response_id)


def _adopt(
    state: ServerState, live: LiveSession, body: ChatRequest, images: Mapping[str, Image]
) -> None:
    """Give the live session what the request says, so that the request decides the answer."""
    options, given = live.session.options, body.consensus
    options = state.mind.options(
        options,
        model=options.pinned if body.model is None else body.model,
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
    if body.template is not None:
        options = replace(options, template=body.template)
    live.session.update(options, body.history(images))


def _cancelled() -> ErrorInfo:
    return ErrorInfo(499, "the response was cancelled", "cancelled", None, "cancelled")
