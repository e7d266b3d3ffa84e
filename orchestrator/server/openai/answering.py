"""From turns to responses: what all doors of OpenAI's API do with an answer.

Owns how an answer is joined, how several are read side by side, and how a response leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import (
    AbstractAsyncContextManager,
    aclosing,
    asynccontextmanager,
    nullcontext,
    suppress,
)

from aiohttp import web

from ....backends.base import TokenLogprob
from ...consensus.task import helpers
from ...errors import Unavailable
from ...events import Delta, ResponseReasoningDelta, ResponseTextDelta
from ..middleware import error_info, log_failure
from ..sse import EventStream, dropped_after, taken_at_once
from ..state import REQUEST_ID, SHUTTING_DOWN, ServerState
from .alone import AloneTurn
from .format import Joined
from .turns import Turn

EXPERT_HEADER = "X-LiveMind-Expert"
AT_ONCE = 8
"""Answers of one request that are written at the same time."""
QUEUED_PIECES = 64
QUIET_S = 2.0
"""After so long without an event a stream gets a comment."""
AnyTurn = Turn | AloneTurn
Opening = Callable[[], AbstractAsyncContextManager[AnyTurn]]
Frames = AsyncGenerator[tuple[object, ...], None]
"""Payloads to be sent together, ``DONE`` at the end."""


class Joining:
    """An answer that is being joined; its tool calls are told by its end."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._logprobs: list[TokenLogprob] | None = None

    def saw(self, piece: Delta) -> None:
        """Add a piece."""
        if isinstance(piece, ResponseTextDelta):
            self._text.append(piece.delta)
            if piece.logprobs is not None:
                self._logprobs = [*(self._logprobs or ()), *piece.logprobs]
        elif isinstance(piece, ResponseReasoningDelta):
            self._thoughts.append(piece.delta)

    def joined(self) -> Joined:
        """Return what was seen."""
        return Joined("".join(self._text), "".join(self._thoughts), self._logprobs)


async def joined(turn: AnyTurn) -> Joined:
    """Read a turn to its end."""
    joining = Joining()
    async for piece in turn:
        joining.saw(piece)
    return joining.joined()


async def side_by_side(
    openings: Sequence[Opening],
) -> AsyncGenerator[tuple[int, AnyTurn, Delta | None], None]:
    """Yield (place, turn, piece) of several answers as they come; None = that one has ended.

    ``AT_ONCE`` are written at a time. Closing the iterator cancels all; one that fails ends it.

    Raises:
        Exception: what the first turn that failed raised.
    """
    pieces: asyncio.Queue[tuple[int, AnyTurn, Delta | None] | Exception]
    pieces = asyncio.Queue(QUEUED_PIECES)
    slots = asyncio.Semaphore(AT_ONCE)

    async def read(place: int, opening: Opening) -> None:
        try:
            async with slots, opening() as turn:
                async for piece in turn:
                    await pieces.put((place, turn, piece))
                await turn.free()
                await pieces.put((place, turn, None))
        except Exception as error:
            await pieces.put(error)

    async with helpers() as start:
        for place, opening in enumerate(openings):
            start(read(place, opening))
        left = len(openings)
        while left:
            piece = await pieces.get()
            if isinstance(piece, Exception):
                raise piece
            left -= piece[2] is None
            yield piece


async def stream(
    request: web.Request,
    state: ServerState,
    frames: Frames,
    headers: Callable[[], Mapping[str, str]],
    free: Callable[[], object],
) -> web.StreamResponse:
    """Send the frames as they come, or one error event where they end early.

    Until the first frame a failure is an ordinary error response with its own status, unless that
    frame takes longer than ``QUIET_S``: the stream is then opened with a comment.

    Args:
        request: to be answered.
        state: of the server.
        frames: of the answer.
        headers: known once the first frame is there.
        free: lets the experts go, before an error is sent.
    """
    events = EventStream(request, state.limits.send_timeout_s)
    async with aclosing(frames), kept_open(events, headers) as begun:
        try:
            async for payloads in frames:
                await begun()
                if not events.response.prepared:
                    await events.open(headers())
                await events.send(*payloads)
        except ConnectionError:
            raise
        except asyncio.CancelledError:
            if not events.response.prepared or not state.in_flight.aborted():
                raise
            await _freed(free)
            await events.send(error_info(Unavailable(SHUTTING_DOWN)).envelope())
        except Exception as exc:
            if not events.response.prepared:
                raise
            info = error_info(exc)
            if info.status == 500:
                log_failure(f"request {request[REQUEST_ID]}", exc)
            await _freed(free)
            await events.send(info.envelope())
    return events.response


@asynccontextmanager
async def kept_open(
    events: EventStream, headers: Callable[[], Mapping[str, str]]
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Send comments while the first event is waited for, as clients give up a silent connection.

    Yields what ends that; it is to be awaited before anything is sent.
    """
    over = asyncio.Event()
    keeping: list[asyncio.Task[None]] = []

    async def keep() -> None:
        while not over.is_set():
            if not events.response.prepared:
                await events.open(headers())
            await events.comment("waiting for the expert")
            with suppress(TimeoutError):
                async with asyncio.timeout(QUIET_S):
                    await over.wait()

    loop = asyncio.get_running_loop()
    timer = loop.call_later(QUIET_S, lambda: keeping.append(loop.create_task(keep())))

    async def begun() -> None:
        timer.cancel()
        if keeping and not over.is_set():
            over.set()
            await asyncio.wait(keeping)
            keeping[0].result()  # the client may be gone

    try:
        yield begun
    finally:
        timer.cancel()
        over.set()
        for task in keeping:
            task.cancel()
        if keeping:
            await asyncio.wait(keeping)


async def _freed(free: Callable[[], object]) -> None:
    freeing = free()
    if asyncio.iscoroutine(freeing):
        await freeing


async def send(
    request: web.Request,
    state: ServerState,
    response: web.Response,
    turn: AnyTurn | None = None,
) -> web.Response:
    """Send a response: a small one before its turn is cleaned up, another once its expert is free.

    Raises:
        ConnectionResetError: the client did not read for ``send_timeout_s``; its connection is
            closed.
    """
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    at_once = taken_at_once(request, response.content_length or 0)
    if not at_once and turn is not None:
        await turn.free()
    limit_s = state.limits.send_timeout_s
    async with nullcontext() if at_once else dropped_after(request, limit_s):
        await response.prepare(request)
        await response.write_eof()
    return response
