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
from ..live.frames import Append, Cancel, Clear, Commit, ItemDelete, NewItem, Replace
from ..live.items import changed_item
from ..live.masking import ClientSocket
from ..live.options import reconfigured, settings_of, with_tools
from ..live.schema import SessionConfig
from ..live.session import LiveSession
from ..state import ServerState
from ..validation import parse
from . import events
from .frames import (
    FRAME,
    TAGS,
    Frame,
    ItemCreate,
    RealtimeSession,
    ResponseCreate,
    ResponseWish,
    SessionUpdate,
    unsupported,
)
from .functions import Functions, check_called

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
        socket: ClientSocket,
        transport: asyncio.Transport | None,
    ) -> None:
        super().__init__(state, session, socket, transport)
        rules = state.mind.settings.conversation
        self._truncation = "disabled" if rules.overflow == "refuse" else "auto"
        conversation_id = f"conv_{session.id.removeprefix('sess_')}"
        self._told = events.Translation(conversation_id, rules.characters_per_s)
        self._functions = Functions()

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
                if isinstance(frame.item, NewItem):
                    self._create(frame.item.item, frame.previous_item_id)
                else:
                    self._return(frame.item.item, frame.previous_item_id)
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
        told = self._functions.told_by(given, "session")
        if told is not self._functions:
            options = with_tools(options, *told.chosen(), told.parallel)
        self._live.configure(options)
        self._functions = told
        if given.livemind is not None and given.livemind.events is not None:
            self._told.extensions = given.livemind.events

    def _shown(self) -> dict[str, Any]:
        own = to_builtins(settings_of(self._live))
        del own["tools"]
        instructions = own.pop("instructions")
        return {
            "type": "realtime",
            "object": "realtime.session",
            "id": own.pop("id"),
            "model": own.pop("model"),
            "output_modalities": ["text"],
            "instructions": instructions or "",
            "max_output_tokens": self._live.session.options.params.max_tokens or "inf",
            "tools": self._functions.shown(),
            "tool_choice": self._functions.shown_choice(),
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

    def _return(self, item: Item, after: str | None) -> None:
        """Take a call that was made elsewhere, or what a function returned.

        Results at the end belong to the next turn, and are kept for it.
        """
        items, results = self._live.session.items, self._functions.results
        standing = [*items]
        last = results[-1] if results else standing[-1] if standing else None
        previous = after if last is None or after is not None else last.id
        if item.role == "tool":
            check_called(item, standing)
        if item.role == "tool" and after in (None, last.id if last is not None else "root"):
            results.append(item)
        else:
            self._settle_results()
            self._told.is_told(item)
            with self._unproposed():
                items.create(item, after)
        for told in self._told.returned(item, previous):
            self._queue.put_or_close(told)

    def _settle_results(self) -> None:
        """Let what functions returned be part of the conversation, before what is said next."""
        with self._unproposed():
            for item in self._functions.take_results():
                self._live.session.items.create(item)

    def _create(self, item: Item, after: str | None) -> None:
        session = self._live.session
        if after is not None and after == self._functions.last_result_id:
            after = None
        self._settle_results()
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
        session, told = self._live.session, self._functions.told_by(wish, "response")
        item, text = session.items.proposed, session.text
        if self._functions.results and text.strip():
            self._settle_results()
        if item is None and not text.strip() and not self._functions.results:
            item = None if session.answering else session.items.reopen()
            if item is None:
                raise _nothing_to_answer(answering=session.answering)
        before, later = session.options, "" if item is None or self._is_proposed else text
        options = before
        if wish.instructions is not None:
            options = replace(options, instructions=wish.instructions or None)
        if told is not self._functions:
            options = with_tools(options, *told.chosen(), told.parallel)
        if options is not before:
            self._live.configure(options)
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
        follow = self._functions.follow()
        self._told.silent = bool(follow)
        response_id = self._live.commit(
            text if item is None else item.text,
            None,
            params if wish.says_limit else None,
            item.images if item is not None else (),
            item_id=item.id if item is not None else None,
            follow=follow,
        )
        self._functions.take_results()
        self._told.asked(response_id, wish.metadata, params.max_tokens)

    def _commit(self, frame: Commit) -> None:
        self._refuse_when_stopping()
        self._settle_results()
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
