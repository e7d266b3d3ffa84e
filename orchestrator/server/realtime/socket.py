"""``ws /v1/realtime``: the text part of the OpenAI Realtime API, spoken with a live session.

A user's item at the end of the conversation is the input of the session's turn, as if it had been
typed; ``response.create`` is its commit. So what was prepared for partial text is found again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from json import loads
from typing import TYPE_CHECKING, Any

from aiohttp import web
from msgspec import json, to_builtins
from msgspec.structs import replace
from pydantic import TypeAdapter

from ...errors import ErrorInfo, InvalidRequest
from ...events import Event
from ...item_events import Item
from ..live.connection import Connection, serve
from ..live.frames import (
    Append,
    Cancel,
    Clear,
    Commit,
    ItemCreate,
    ItemDelete,
    Replace,
)
from ..live.items import changed_item
from ..live.options import reconfigured, settings_of
from ..live.schema import SessionConfig
from ..live.session import LiveSession
from ..state import ServerState
from ..validation import parse
from . import events
from .frames import (
    FRAME,
    TAGS,
    Frame,
    RealtimeSession,
    ResponseCreate,
    ResponseWish,
    SessionUpdate,
    unsupported,
)

if TYPE_CHECKING:
    import asyncio

CONFIG = TypeAdapter(SessionConfig)
PROTOCOLS = ("realtime",)
UNSUPPORTED_QUERY = {"call_id": "calls are", "intent": "transcription is"}


async def realtime(request: web.Request) -> web.WebSocketResponse:
    """Open a session with the ``model`` of the query and speak the API on it."""
    for name in request.query:
        if (what := UNSUPPORTED_QUERY.get(name)) is not None:
            message = f"{name}: {what} not supported by this server"
            raise InvalidRequest(message, param=name, code="unsupported_parameter")
        if name != "model":
            raise InvalidRequest(f"{name}: unknown", param=name, code="unknown_parameter")
    given = {"model": request.query["model"]} if "model" in request.query else {}

    def configure(state: ServerState, live: LiveSession) -> None:
        config = parse(CONFIG, json.encode(given), max_text_chars=state.limits.max_text_chars)
        live.configure(reconfigured(state, live, config))

    return await serve(request, RealtimeConnection, configure=configure, protocols=PROTOCOLS)


class RealtimeConnection(Connection[Frame, events.Frame]):
    """The Realtime API on one WebSocket."""

    def __init__(
        self,
        state: ServerState,
        session: LiveSession,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
    ) -> None:
        super().__init__(state, session, socket, transport)
        rules = state.mind.settings.conversation
        self._truncation = "disabled" if rules.overflow == "refuse" else "auto"
        conversation_id = f"conv_{session.id.removeprefix('sess_')}"
        self._told = events.Translation(conversation_id, rules.characters_per_s)

    # ---- the protocol

    def _greeting(self) -> Iterable[events.Frame]:
        return (events.frame("session.created", session=self._shown()),)

    def _parse(self, raw: str) -> Frame:
        try:
            return parse(FRAME, raw, max_text_chars=self._state.limits.max_text_chars, tags=TAGS)
        except InvalidRequest as exc:
            if exc.code == "unknown_event" and (refusal := unsupported(loads(raw))) is not None:
                raise refusal from None
            raise

    def _error(self, info: ErrorInfo, event_id: str | None = None) -> events.Frame:
        return events.error(info, event_id)

    def _wire(self, item: Event | events.Frame) -> Iterable[object]:
        return (item,) if isinstance(item, dict) else self._told.frames(item)

    def _apply(self, frame: Frame) -> None:
        self._live.touch()
        session = self._live.session
        match frame:
            case SessionUpdate():
                self._configure(frame.session)
                self._queue.put_or_close(events.frame("session.updated", session=self._shown()))
            case ItemCreate():
                self._create(frame.item.item, frame.previous_item_id)
            case ResponseCreate():
                self._respond(frame.response or ResponseWish())
            case Cancel():
                self._live.cancel(frame.response_id)
                self._told.called_off(frame.response_id)
            case Append():
                typed = "" if self._is_proposed else session.text
                session.replace(typed + frame.text, frame.revision, turn_id=frame.turn_id)
            case Replace():
                session.replace(frame.text, frame.revision, turn_id=frame.turn_id)
            case Clear():
                session.clear()
            case Commit():
                self._commit(frame)
            case ItemDelete():
                with self._unproposed():
                    session.items.delete(frame.item_id)
            case _:
                if (shown := changed_item(session.items, frame)) is not None:
                    self._queue.put_or_close(shown)

    # ---- settings

    def _configure(self, given: RealtimeSession) -> None:
        if given.truncation not in (None, self._truncation):
            message = f'truncation: this server has "{self._truncation}" (conversation.overflow)'
            raise InvalidRequest(message, param="session.truncation", code="unsupported_parameter")
        options = reconfigured(self._state, self._live, given.config)
        if given.says_limit:
            params = replace(options.params, max_tokens=given.max_output_tokens)
            options = replace(options, params=params)
        self._live.configure(options)
        if given.livemind is not None and given.livemind.events is not None:
            self._told.extensions = given.livemind.events

    def _shown(self) -> dict[str, Any]:
        own = to_builtins(settings_of(self._live))
        instructions = own.pop("instructions")
        return {
            "type": "realtime",
            "object": "realtime.session",
            "id": own.pop("id"),
            "model": own.pop("model"),
            "output_modalities": ["text"],
            "instructions": instructions or "",
            "max_output_tokens": self._live.session.options.params.max_tokens or "inf",
            "tools": [],
            "tool_choice": "auto",
            "truncation": self._truncation,
            "tracing": None,
            "prompt": None,
            "livemind": {**own, "events": self._told.extensions},
        }

    # ---- items

    @property
    def _is_proposed(self) -> bool:
        """Whether the session's input is the text of an item that was not asked yet."""
        session = self._live.session
        proposed = session.items.proposed
        return proposed is not None and bool(session.text) and session.text == proposed.text

    @contextmanager
    def _unproposed(self) -> Iterator[None]:
        """Clear the input at the end if it was a proposed item's that is none any more."""
        session, was = self._live.session, self._is_proposed
        yield
        if was and session.items.proposed is None:
            session.clear()

    def _create(self, item: Item, after: str | None) -> None:
        session = self._live.session
        last = next(reversed([*session.items]), None)
        if item.role != "user" or after not in (None, last.id if last is not None else "root"):
            with self._unproposed():
                session.items.create(item, after)
            return
        session.items.propose(item)
        if session.text.rstrip() != item.text.rstrip():
            session.replace(item.text)

    # ---- responses

    def _respond(self, wish: ResponseWish) -> None:
        """Commit what was said last: an item, or text that was typed since."""
        self._refuse_when_stopping()
        session = self._live.session
        item, text = session.items.proposed, session.text
        if item is None and not text.strip():
            item = None if session.answering else session.items.reopen()
            if item is None:
                raise _nothing_to_answer(answering=session.answering)
        before, later = session.options, "" if item is None or self._is_proposed else text
        if wish.instructions is not None:
            self._live.configure(replace(before, instructions=wish.instructions or None))
        try:
            self._ask(item, text, wish)
        finally:
            if session.options is not before:
                self._live.configure(before)
        if later.strip() and before.interrupted_by == "commit":  # typed behind the item
            session.replace(later)

    def _ask(self, item: Item | None, text: str, wish: ResponseWish) -> None:
        params = self._live.session.options.params
        if wish.says_limit:
            params = replace(params, max_tokens=wish.max_output_tokens)
        response_id = self._live.commit(
            text if item is None else item.text,
            None,
            params if wish.says_limit else None,
            item.images if item is not None else (),
            item_id=item.id if item is not None else None,
        )
        self._told.asked(response_id, wish.metadata, params.max_tokens)

    def _commit(self, frame: Commit) -> None:
        self._refuse_when_stopping()
        session = self._live.session
        item = session.items.proposed if frame.text is None and self._is_proposed else None
        response_id = self._live.commit(
            frame.text,
            frame.revision,
            item_id=item.id if item is not None else None,
            follow=frame.follow(session.items.messages()),
        )
        self._told.asked(response_id, None, session.options.params.max_tokens)


def _nothing_to_answer(*, answering: bool) -> InvalidRequest:
    if answering:
        message = "a response is being given, and nothing was said since"
        return InvalidRequest(message, code="conversation_already_has_active_response")
    message = "the last item is not the user's; create one of the user's to be answered"
    return InvalidRequest(message, code="nothing_to_answer")
