"""A live session's events in the words, and in the order, of the OpenAI Realtime API.

Owns what the API tells of a response and a session does not: its output item, its one part, the
text of one that was cut off. What the API lacks goes out as the live protocol has it, if the
client wants it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from ....backends.base import Usage
from ...errors import ErrorInfo
from ...events import (
    Event,
    ResponseCreated,
    ResponseDone,
    ResponseSentence,
    ResponseTextDelta,
    ResponseTextDone,
    ResponseToolCallDelta,
    to_wire,
)
from ...item_events import (
    ConversationItem,
    Item,
    ItemAdded,
    ItemDeleted,
    ItemDone,
    ItemRetrieved,
    ItemTruncated,
    new_item_id,
)
from .calls import Call, returned_view

Frame = dict[str, Any]
CODES = {"response_not_active": "response_cancel_not_active"}
"""Codes of errors that the API has another name for."""


def frame(kind: str, **fields: object) -> Frame:
    """Return an event with an id of its own."""
    return {"type": kind, "event_id": f"event_{token_hex(10)}", **fields}


def error(info: ErrorInfo, event_id: str | None) -> Frame:
    """Return the ``error`` event; ``event_id`` is that of the frame it answers."""
    body: Frame = {
        "type": info.type,
        "code": CODES.get(info.code, info.code),
        "message": info.message,
        "param": info.param,
        "event_id": event_id,
    }
    if info.retry_after_s is not None:
        body["retry_after_s"] = info.retry_after_s
    return frame("error", error=body)


@dataclass(slots=True)
class _Response:
    """One response, from its commit to its end."""

    id: str
    metadata: dict[str, str] | None = None
    max_output_tokens: int | None = None
    item: ConversationItem | None = None
    pieces: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    created: bool = False
    previous_item_id: str | None = None
    shown: bool = False
    part_open: bool = False
    called_off: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def place(self) -> Frame:
        """Where its item stands."""
        assert self.item is not None
        return {"response_id": self.id, "item_id": self.item.id, "output_index": 0}


class Translation:
    """The events of one session; fed in their order.

    Args:
        conversation_id: of the session's one conversation.
        characters_per_s: tells where the audio of an answer would end that was cut to so many
            characters.

    Attributes:
        extensions: events that the API does not have are sent too.
        silent: the turn that begins has no words of the user, only results of functions.
    """

    def __init__(self, conversation_id: str, characters_per_s: float) -> None:
        self.extensions = False
        self._conversation_id = conversation_id
        self._characters_per_s = characters_per_s
        self._responses: dict[str, _Response] = {}
        self._told: str | None = None
        self._functions: dict[str, Frame] = {}
        self.silent = False

    def is_told(self, item: Item) -> None:
        """An item about a function is told of by ``returned``, and by nothing else."""
        self._functions[item.id] = returned_view(item)

    def returned(self, item: Item, previous: str | None) -> list[Frame]:
        """Return what tells of a call, or of what a function returned, that the client made."""
        self.is_told(item)
        self._told, shown = item.id, self._functions[item.id]
        kinds = ("conversation.item.added", "conversation.item.done")
        return [frame(kind, previous_item_id=previous, item=shown) for kind in kinds]

    def asked(
        self, response_id: str, metadata: dict[str, str] | None, max_output_tokens: int | None
    ) -> None:
        """A response was asked for; its own settings."""
        self._responses[response_id] = _Response(response_id, metadata, max_output_tokens)

    def called_off(self, response_id: str | None) -> None:
        """The client cancelled this response, or all."""
        for response in self._responses.values():
            response.called_off |= response_id in (None, response.id)

    def frames(self, event: Event) -> list[Frame]:
        """Return what tells of the event, in order."""
        match event:
            case ResponseCreated():
                return self._created(event)
            case ResponseTextDelta(delta=delta):
                response = self._responses[event.response_id]
                told = self._show(response)
                response.pieces.append(delta)
                kind = "response.output_text.delta"
                return [*told, frame(kind, **response.place, content_index=0, delta=delta)]
            case ResponseToolCallDelta():
                return self._call(self._responses[event.response_id], event)
            case ResponseTextDone():
                return self._part_done(self._responses[event.response_id])
            case ItemAdded():
                return self._item_added(event)
            case ItemDone():
                return self._item_done(event)
            case ResponseDone():
                return self._done(event)
            case ItemTruncated():
                return [self._truncated(event)]
            case ItemRetrieved() if event.item.id in self._functions:
                kind = "conversation.item.retrieved"
                return [frame(kind, item=self._functions[event.item.id])]
            case ItemDeleted():
                self._functions.pop(event.item_id, None)
                return [_own(event)]
            case ItemRetrieved() | ResponseSentence():
                return [_own(event)]
            case _:
                return [_own(event)] if self.extensions else []

    # ---- a response

    def _created(self, event: ResponseCreated) -> list[Frame]:
        response = self._responses.setdefault(event.response_id, _Response(event.response_id))
        if event.item_id is not None:
            response.item = ConversationItem(event.item_id, "assistant", "in_progress", ())
        return [self._tell_created(response)]

    def _tell_created(self, response: _Response) -> Frame:
        response.created = True
        return frame("response.created", response=self._shown(response, "in_progress"))

    def _item_added(self, event: ItemAdded) -> list[Frame]:
        response = self._of_item(event.item.id)
        if response is not None:  # shown with its first word: it may be a call alone
            response.previous_item_id = self._before(event.previous_item_id)
            return []
        if self._is_silent(event.item):
            return []
        self._told = event.item.id
        return [_own(event)]

    def _show(self, response: _Response) -> list[Frame]:
        """Return what tells of the answer's own item, once."""
        if response.shown or response.item is None:
            return []
        response.shown = response.part_open = True
        self._told = response.item.id
        item = to_builtins(response.item)
        part = {"type": "text", "text": ""}
        previous = response.previous_item_id
        return [
            frame("response.output_item.added", response_id=response.id, output_index=0, item=item),
            frame("conversation.item.added", previous_item_id=previous, item=item),
            frame("response.content_part.added", **response.place, content_index=0, part=part),
        ]

    def _is_silent(self, item: ConversationItem) -> bool:
        """Whether clients are told nothing, or something else, of an item."""
        wordless = item.role == "user" and not any(part.text for part in item.content)
        return item.id in self._functions or (self.silent and wordless)

    def _before(self, previous: str | None) -> str | None:
        """Return the item that clients know before a new one: some of a turn's are not told of."""
        return self._told if self.silent else previous

    # ---- calls of functions

    def _call(self, response: _Response, piece: ResponseToolCallDelta) -> list[Frame]:
        told: list[Frame] = []
        if piece.index == len(response.calls):
            told = self._part_done(response) + self._calls_done(response)
            assert response.item is not None
            first = not response.shown and not response.calls
            call = Call(
                response.item.id if first else new_item_id(),
                piece.call_id or "",
                piece.name or "",
                len(response.calls) + response.shown,
            )
            response.calls.append(call)
            previous = response.previous_item_id if first else self._told
            self._told = call.item_id
            place = call.output(response.id)
            told.append(frame("response.output_item.added", **place, item=call.view()))
            told.append(
                frame("conversation.item.added", previous_item_id=previous, item=call.view())
            )
        call = response.calls[piece.index]
        call.arguments += piece.delta
        if piece.delta:
            kind = "response.function_call_arguments.delta"
            told.append(frame(kind, **call.place(response.id), delta=piece.delta))
        return told

    def _calls_done(self, response: _Response, status: str = "completed") -> list[Frame]:
        """Return what tells that the calls before are whole."""
        told = []
        for call in response.calls:
            if call.status != "in_progress":
                continue
            call.status = status
            self._functions[call.item_id] = call.view()
            place = call.output(response.id)
            said = {"name": call.name, "arguments": call.arguments}
            kind = "response.function_call_arguments.done"
            told.append(frame(kind, **call.place(response.id), **said))
            told.append(frame("conversation.item.done", previous_item_id=None, item=call.view()))
            told.append(frame("response.output_item.done", **place, item=call.view()))
        return told

    def _part_done(self, response: _Response) -> list[Frame]:
        if not response.part_open:
            return []
        response.part_open = False
        place = {**response.place, "content_index": 0}
        part = {"type": "text", "text": response.text}
        return [
            frame("response.output_text.done", **place, text=response.text),
            frame("response.content_part.done", **place, part=part),
        ]

    def _item_done(self, event: ItemDone) -> list[Frame]:
        response = self._of_item(event.item.id)
        if response is None:
            return [] if self._is_silent(event.item) else [_own(event)]
        response.item = event.item
        told = self._part_done(response)
        if response.calls and not response.shown:
            return told
        return [*self._show(response), *self._part_done(response), *told, _own(event)]

    def _done(self, event: ResponseDone) -> list[Frame]:
        response = self._responses.pop(event.response_id, _Response(event.response_id))
        told = [] if response.created else [self._tell_created(response)]
        told += self._part_done(response)
        whole = "completed" if event.status == "completed" else "incomplete"
        told += self._calls_done(response, whole)
        self.silent = False
        output: list[object] = []
        if response.item is not None and (response.shown or not response.calls):
            told += self._show(response) + self._part_done(response)
            if response.item.status == "in_progress":  # it was deleted meanwhile
                response.item = replace(response.item, status="incomplete")
            item = to_builtins(response.item)
            kind = "response.output_item.done"
            told.append(frame(kind, response_id=response.id, output_index=0, item=item))
            output.append(item)
        output += [call.view() for call in response.calls]
        status, details = _status(event, called_off=response.called_off)
        shown = self._shown(response, status)
        shown |= {"status_details": details, "output": output, "usage": _usage(event.usage)}
        left_out = ("type", "response_id", "status", "error")
        shown["livemind"] = {k: v for k, v in to_wire(event).items() if k not in left_out}
        return [*told, frame("response.done", response=shown)]

    def _shown(self, response: _Response, status: str) -> Frame:
        return {
            "id": response.id,
            "object": "realtime.response",
            "status": status,
            "status_details": None,
            "output": [],
            "conversation_id": self._conversation_id,
            "output_modalities": ["text"],
            "max_output_tokens": response.max_output_tokens or "inf",
            "metadata": response.metadata,
            "usage": None,
        }

    def _of_item(self, item_id: str) -> _Response | None:
        for response in self._responses.values():
            if response.item is not None and response.item.id == item_id:
                return response
        return None

    def _truncated(self, event: ItemTruncated) -> Frame:
        told = _own(event)
        if event.audio_end_ms is None:
            told["audio_end_ms"] = round(event.characters / self._characters_per_s * 1000)
        return told


def _own(event: Event) -> Frame:
    fields = to_wire(event)
    return frame(str(fields.pop("type")), **fields)


def _status(done: ResponseDone, *, called_off: bool) -> tuple[str, Frame | None]:
    """Return the status of the API and its details."""
    match done.status:
        case "completed" if done.finish_reason == "length":
            return "incomplete", {"type": "incomplete", "reason": "max_output_tokens"}
        case "completed":
            return "completed", None
        case "cancelled":
            reason = "client_cancelled" if called_off else "turn_detected"
            return "cancelled", {"type": "cancelled", "reason": reason}
        case _:
            info = done.error
            about = {} if info is None else {"type": info.type, "code": info.code}
            message = {} if info is None else {"message": info.message}
            return "failed", {"type": "failed", "error": {**about, **message}}


def _usage(usage: Usage | None) -> Frame | None:
    if usage is None:
        return None
    cached = usage.cached_tokens
    none = {"audio_tokens": 0, "image_tokens": 0}
    return {
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "input_token_details": {
            "text_tokens": usage.prompt_tokens,
            "cached_tokens": cached,
            "cached_tokens_details": {"text_tokens": cached, **none},
            **none,
        },
        "output_token_details": {"text_tokens": usage.completion_tokens, "audio_tokens": 0},
    }
