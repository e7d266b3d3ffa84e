"""One WebSocket and its session, whatever protocol is spoken on it: reading, writing, the end.

Three tasks per connection: one reads frames and applies them, one writes what waits in the queue,
one watches for shutdown. A wrong frame is answered with an error and changes nothing. What frames
and events look like is the protocol's own: ``socket.py``, ``realtime/socket.py``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Generic, Protocol, TypeVar

from aiohttp import WSCloseCode, WSMsgType, web
from msgspec import json

from ...errors import (
    ErrorInfo,
    InvalidRequest,
    LiveMindError,
    Overloaded,
    Unavailable,
    from_exception,
)
from ...event_queue import EventQueue
from ...events import Event
from ..affinity import session_key
from ..middleware import log_failure
from ..state import OWNER, SHUTTING_DOWN, STATE, ServerState
from ..tracing.arrival import arrived_s
from ..validation import event_id_of
from .masking import ClientSocket
from .session import LiveSession

logger = logging.getLogger(__name__)

HEARTBEAT_S = 20.0
CLOSE_TIMEOUT_S = 2.0
# Of the time to drain; the rest is for the closing events.
DRAIN_SHARE = 0.8
# Of the time that a server still takes everything; by then its clients should have moved.
MOVE_SHARE = 0.5


class ClientFrame(Protocol):
    """What every frame of a client has."""

    @property
    def type(self) -> str:
        """Its kind."""

    @property
    def event_id(self) -> str | None:
        """What an error about it repeats."""


FrameT = TypeVar("FrameT", bound=ClientFrame)
OwnT = TypeVar("OwnT")


class _End(Exception):
    """Close the connection with this code, after this error event if there is one."""

    def __init__(self, code: WSCloseCode, info: ErrorInfo | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.info = info


class Connection(ABC, Generic[FrameT, OwnT]):
    """One WebSocket and its session.

    ``FrameT`` is a frame of the client, ``OwnT`` what the server itself puts into the queue beside
    the session's events.
    """

    def __init__(
        self,
        state: ServerState,
        session: LiveSession,
        socket: ClientSocket,
        transport: asyncio.Transport | None,
    ) -> None:
        self._state = state
        self._live = session
        self._socket = socket
        self._transport = transport
        limits = state.limits
        self._queue: EventQueue[Event | OwnT] = EventQueue(
            limits.max_queued_events, limits.max_queued_bytes
        )

    # ---- the protocol

    @abstractmethod
    def _greeting(self) -> Iterable[OwnT]:
        """Return what is said first."""

    @abstractmethod
    def _parse(self, raw: str) -> FrameT:
        """Return the frame; raises LiveMindError for what is none."""

    @abstractmethod
    def _apply(self, frame: FrameT) -> None:
        """Do what the frame says; raises LiveMindError and then has changed nothing."""

    @abstractmethod
    def _error(self, info: ErrorInfo, event_id: str | None = None) -> OwnT:
        """Return what tells of an error; ``event_id`` is that of the frame it answers."""

    def _moving(self, retry_after_s: float, closes_in_s: float) -> Iterable[OwnT]:
        """Return what tells a client to go to another server; nothing where no protocol has it."""
        return ()

    @abstractmethod
    def _wire(self, item: Event | OwnT) -> Iterable[object]:
        """Return the frames that tell an item of the queue, to be encoded as JSON."""

    # ---- life

    async def run(self) -> None:
        """Serve until the client leaves, is too slow, or the server ends the session."""
        for frame in self._greeting():
            self._queue.put_or_close(frame)
        with self._live.listen(self._queue):
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._read(), name="live-read")
                    group.create_task(self._write(), name="live-write")
                    group.create_task(self._watch_leaving(), name="live-leaving")
                    group.create_task(self._watch_shutdown(), name="live-shutdown")
            except* _End as ends:
                end = ends.exceptions[0]
                assert isinstance(end, _End)
                await self._close(end)
            except* ConnectionError:
                logger.debug("live session %s: the client vanished", self._live.id)

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            match message.type:
                case WSMsgType.TEXT:
                    arrived_s.set(self._socket.arrived_s)
                    self._on_text(message.data)
                case WSMsgType.BINARY:
                    error = InvalidRequest(
                        "binary frames are not supported", code="unsupported_frame"
                    )
                    self._refuse(error, None)
                case _:
                    raise _End(WSCloseCode.OK)

    async def _write(self) -> None:
        limit_s = self._state.limits.send_timeout_s
        while True:
            try:
                item = await self._queue.get()
                if item is None:
                    raise Unavailable("the session ended")
            except LiveMindError as exc:
                slow = isinstance(exc, Overloaded)
                code = WSCloseCode.TRY_AGAIN_LATER if slow else WSCloseCode.GOING_AWAY
                raise _End(code, from_exception(exc)) from None
            for frame in self._wire(item):
                try:
                    async with asyncio.timeout(limit_s):
                        await self._send(frame)
                except TimeoutError:
                    message = f"the client took no data for {limit_s:g} s (server.send_timeout_s)"
                    error = Overloaded(message, code="slow_client")
                    raise _End(WSCloseCode.TRY_AGAIN_LATER, from_exception(error)) from None

    async def _watch_leaving(self) -> None:
        await self._state.in_flight.leaving.wait()
        left_s = self._state.in_flight.leaves_in_s
        for frame in self._moving(round(random.uniform(0, left_s * MOVE_SHARE), 3), left_s):
            self._queue.put_or_close(frame)

    async def _watch_shutdown(self) -> None:
        await self._state.in_flight.stopping.wait()
        await self._idle_within(self._state.limits.drain_timeout_s * DRAIN_SHARE)
        if not self._live.idle.is_set():
            self._live.session.cancel()
            await self._idle_within(CLOSE_TIMEOUT_S)
        self._queue.close(Unavailable(SHUTTING_DOWN, retry_after_s=1.0))

    async def _idle_within(self, limit_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._live.idle.wait()

    # ---- frames

    def _on_text(self, raw: str) -> None:
        try:
            frame = self._parse(raw)
        except LiveMindError as exc:
            self._refuse(exc, event_id_of(raw))
            return
        try:
            self._apply(frame)
        except LiveMindError as exc:
            self._refuse(exc, frame.event_id)
        except Exception as exc:
            log_failure(f"live session {self._live.id}: {frame.type}", exc)
            self._refuse(exc, frame.event_id)

    def _refuse(self, exc: Exception, event_id: str | None) -> None:
        self._queue.put_or_close(self._error(from_exception(exc), event_id))

    def _refuse_when_stopping(self) -> None:
        """Refuse to begin an answer while the server shuts down."""
        if self._state.in_flight.stopping.is_set():
            raise Unavailable(SHUTTING_DOWN, retry_after_s=1.0)

    # ---- the wire

    async def _send(self, frame: object) -> None:
        await self._socket.send_str(json.encode(frame).decode())

    async def _close(self, end: _End) -> None:
        """Stop working for the client, say why and close; one that does not listen is cut off."""
        self._live.session.cancel()
        if self._socket.closed:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                if end.info is not None:
                    for frame in self._wire(self._error(end.info)):
                        await self._send(frame)
                await self._socket.close(code=end.code)
        except (TimeoutError, ConnectionError):
            if self._transport is not None:
                self._transport.abort()


Connect = Callable[
    [ServerState, LiveSession, ClientSocket, asyncio.Transport | None],
    Connection[FrameT, OwnT],
]


def client_socket(
    request: web.Request, state: ServerState, protocols: Sequence[str] = (), instead: str = ""
) -> ClientSocket:
    """Return the socket of an upgrade that was not answered yet.

    Args:
        request: the upgrade.
        state: of the server.
        protocols: WebSocket subprotocols that a client may name.
        instead: what works without an upgrade, for people.

    Raises:
        InvalidRequest: the request asks for no upgrade.
    """
    socket = ClientSocket(
        heartbeat=HEARTBEAT_S,
        timeout=CLOSE_TIMEOUT_S,
        max_msg_size=state.limits.max_body_bytes,
        compress=False,
        protocols=protocols,
    )
    if not socket.can_prepare(request):
        message = f"{request.path} needs a WebSocket upgrade{instead}"
        raise InvalidRequest(message, code="upgrade_required")
    return socket


@asynccontextmanager
async def spoken_on(socket: ClientSocket, state: ServerState, what: str) -> AsyncIterator[None]:
    """Close the socket when the server shuts down, or when ``what`` fails, which is logged.

    After the upgrade there is no HTTP answer any more.
    """
    try:
        yield
    except asyncio.CancelledError:
        if not state.in_flight.aborted():
            raise
        await socket.close(code=WSCloseCode.GOING_AWAY)
    except Exception as exc:
        log_failure(what, exc)
        await socket.close(code=WSCloseCode.INTERNAL_ERROR)


async def serve(
    request: web.Request,
    connect: Connect[FrameT, OwnT],
    *,
    configure: Callable[[ServerState, LiveSession], None] = lambda state, session: None,
    protocols: Sequence[str] = (),
) -> web.WebSocketResponse:
    """Open a session and speak a protocol on it until either side ends.

    Args:
        request: the upgrade.
        connect: the protocol.
        configure: called with the session before the upgrade is answered; what it raises is the
            answer.
        protocols: WebSocket subprotocols that a client may name.
    """
    state = request.app[STATE]
    socket = client_socket(request, state, protocols)
    affinity = session_key(state.limits.affinity_from, request.headers)
    session = await state.registry.open(request.get(OWNER), affinity=affinity)
    try:
        configure(state, session)
        await socket.prepare(request)
        async with spoken_on(socket, state, f"live session {session.id}"):
            await connect(state, session, socket, request.transport).run()
    finally:
        await state.registry.close(session)
    return socket
