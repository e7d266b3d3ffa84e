"""``ws /v1/live``: the live protocol. JSON text frames in, typed events out, in order.

Three tasks per connection: one reads frames and applies them, one writes what waits in the queue,
one watches for shutdown. A wrong frame is answered with an error event and changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

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
from ...events import Event, to_wire
from ...item_events import ItemRetrieved
from ..middleware import log_failure
from ..state import OWNER, SHUTTING_DOWN, STATE, ServerState
from ..validation import event_id_of, parse
from .answers import OwnFrame, SessionCreated, SessionUpdated, error_frame
from .frames import (
    FRAME,
    TAGS,
    Append,
    Cancel,
    Clear,
    Commit,
    Frame,
    ItemCreate,
    ItemDelete,
    ItemRetrieve,
    ItemTruncate,
    Replace,
    SessionUpdate,
)
from .options import reconfigured, settings_of
from .session import LiveSession

logger = logging.getLogger(__name__)

HEARTBEAT_S = 20.0
CLOSE_TIMEOUT_S = 2.0
# Of the time to drain; the rest is for the closing events.
DRAIN_SHARE = 0.8


async def live(request: web.Request) -> web.WebSocketResponse:
    """Open a session and speak the live protocol on it until either side ends."""
    state = request.app[STATE]
    socket = web.WebSocketResponse(
        heartbeat=HEARTBEAT_S,
        timeout=CLOSE_TIMEOUT_S,
        max_msg_size=state.limits.max_body_bytes,
        compress=False,
    )
    if not socket.can_prepare(request):
        raise InvalidRequest("/v1/live needs a WebSocket upgrade", code="upgrade_required")
    session = await state.registry.open(request.get(OWNER))
    try:
        await socket.prepare(request)
        try:
            await Connection(state, session, socket, request.transport).run()
        except asyncio.CancelledError:
            if not state.in_flight.aborted():
                raise
            await socket.close(code=WSCloseCode.GOING_AWAY)
        except Exception as exc:  # after the upgrade there is no HTTP answer any more
            log_failure(f"live session {session.id}", exc)
            await socket.close(code=WSCloseCode.INTERNAL_ERROR)
    finally:
        await state.registry.close(session)
    return socket


class _End(Exception):
    """Close the connection with this code, after this error event if there is one."""

    def __init__(self, code: WSCloseCode, info: ErrorInfo | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.info = info


class Connection:
    """One WebSocket and its session."""

    def __init__(
        self,
        state: ServerState,
        session: LiveSession,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
    ) -> None:
        self._state = state
        self._live = session
        self._socket = socket
        self._transport = transport
        self._queue: EventQueue[Event | OwnFrame] = EventQueue(state.limits.max_queued_events)

    async def run(self) -> None:
        """Serve until the client leaves, is too slow, or the server ends the session."""
        self._queue.put_or_close(SessionCreated(settings_of(self._live)))
        with self._live.listen(self._queue):
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._read(), name="live-read")
                    group.create_task(self._write(), name="live-write")
                    group.create_task(self._watch_shutdown(), name="live-shutdown")
            except* _End as ends:
                end = ends.exceptions[0]
                assert isinstance(end, _End)
                await self._close(end)
            except* ConnectionError:
                logger.debug("live session %s: the client vanished", self._live.id)

    # ---- tasks

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            match message.type:
                case WSMsgType.TEXT:
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
            frame = item if isinstance(item, OwnFrame) else to_wire(item)
            try:
                async with asyncio.timeout(limit_s):
                    await self._send(frame)
            except TimeoutError:
                message = f"the client took no data for {limit_s:g} s (server.send_timeout_s)"
                error = Overloaded(message, code="slow_client")
                raise _End(WSCloseCode.TRY_AGAIN_LATER, from_exception(error)) from None

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
            limit = self._state.limits.max_text_chars
            frame = parse(FRAME, raw, max_text_chars=limit, tags=TAGS)
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

    def _apply(self, frame: Frame) -> None:
        if not self._live.configured and not isinstance(frame, SessionUpdate):
            message = f"{frame.type} before session.update; send session.update first"
            raise InvalidRequest(message, param="type", code="session_not_configured")
        self._live.touch()
        session = self._live.session
        match frame:
            case SessionUpdate(config=config):
                options = reconfigured(self._state, self._live, config)
                self._live.configure(options, config.history)
                self._queue.put_or_close(SessionUpdated(settings_of(self._live)))
            case Append():
                session.append(frame.text, frame.revision, turn_id=frame.turn_id)
            case Replace():
                session.replace(frame.text, frame.revision, turn_id=frame.turn_id)
            case Clear():
                session.clear()
            case Commit() if self._state.in_flight.stopping.is_set():
                raise Unavailable(SHUTTING_DOWN, retry_after_s=1.0)
            case Commit():
                self._live.commit(frame.text, frame.revision)
            case Cancel():
                self._live.cancel(frame.response_id)
            case ItemCreate():
                session.items.create(frame.item.item, frame.previous_item_id)
            case ItemTruncate():
                session.items.truncate(
                    frame.item_id,
                    frame.characters,
                    audio_end_ms=frame.audio_end_ms,
                    words=frame.spoken_words,
                    duration_ms=frame.duration_ms,
                )
            case ItemDelete():
                session.items.delete(frame.item_id)
            case ItemRetrieve():
                item = session.items.retrieve(frame.item_id)
                self._queue.put_or_close(ItemRetrieved(item.view()))

    def _refuse(self, exc: Exception, event_id: str | None) -> None:
        self._queue.put_or_close(error_frame(from_exception(exc), event_id))

    # ---- the wire

    async def _send(self, frame: OwnFrame | dict[str, object]) -> None:
        await self._socket.send_str(json.encode(frame).decode())

    async def _close(self, end: _End) -> None:
        """Stop working for the client, say why and close; one that does not listen is cut off."""
        self._live.session.cancel()
        if self._socket.closed:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                if end.info is not None:
                    await self._send(error_frame(end.info))
                await self._socket.close(code=end.code)
        except (TimeoutError, ConnectionError):
            if self._transport is not None:
                self._transport.abort()
