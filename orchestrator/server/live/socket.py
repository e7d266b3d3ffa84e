"""``ws /v1/live``: the live protocol. JSON text frames in, typed events out, in order."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from ...errors import ErrorInfo, InvalidRequest
from ...events import Event, to_wire
from ..validation import parse
from .answers import OwnFrame, SessionCreated, SessionMoving, SessionUpdated, error_frame
from .connection import Connection, serve
from .frames import (
    FRAME,
    TAGS,
    Append,
    Cancel,
    Clear,
    Commit,
    Frame,
    ItemCreate,
    Replace,
    SessionUpdate,
)
from .items import changed_item
from .options import reconfigured, settings_of

PROTOCOLS = ("livemind",)


async def live(request: web.Request) -> web.WebSocketResponse:
    """Open a session and speak the live protocol on it until either side ends."""
    return await serve(request, LiveConnection, protocols=PROTOCOLS)


class LiveConnection(Connection[Frame, OwnFrame]):
    """The live protocol on one WebSocket."""

    def _greeting(self) -> Iterable[OwnFrame]:
        return (SessionCreated(settings_of(self._live)),)

    def _parse(self, raw: str) -> Frame:
        return parse(FRAME, raw, max_text_chars=self._state.limits.max_text_chars, tags=TAGS)

    def _error(self, info: ErrorInfo, event_id: str | None = None) -> OwnFrame:
        return error_frame(info, event_id)

    def _moving(self, retry_after_s: float, closes_in_s: float) -> Iterable[OwnFrame]:
        return (SessionMoving(retry_after_s, closes_in_s),)

    def _wire(self, item: Event | OwnFrame) -> Iterable[object]:
        return (item if isinstance(item, OwnFrame) else to_wire(item),)

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
            case Commit():
                self._refuse_when_stopping()
                follow = frame.follow(session.items.messages())
                self._live.commit(frame.text, frame.revision, follow=follow)
            case Cancel():
                self._live.cancel(frame.response_id)
            case ItemCreate():
                session.items.create(frame.item.item, frame.previous_item_id)
            case _:
                if (shown := changed_item(session.items, frame)) is not None:
                    self._queue.put_or_close(shown)
