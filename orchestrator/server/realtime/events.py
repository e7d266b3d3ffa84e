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
    to_wire,
)
from ...item_events import (
    ConversationItem,
    ItemAdded,
    ItemDeleted,
    ItemDone,
    ItemRetrieved,
    ItemTruncated,
)

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
    created: bool = False
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
    """

    def __init__(self, conversation_id: str, characters_per_s: float) -> None:
        self.extensions = False
        self._conversation_id = conversation_id
        self._characters_per_s = characters_per_s
        self._responses: dict[str, _Response] = {}

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
                response.pieces.append(delta)
                kind = "response.output_text.delta"
                return [frame(kind, **response.place, content_index=0, delta=delta)]
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
            case ItemDeleted() | ItemRetrieved() | ResponseSentence():
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
        if response is None:
            return [_own(event)]
        response.part_open = True
        item = to_builtins(response.item)
        part = {"type": "text", "text": ""}
        previous = event.previous_item_id
        return [
            frame("response.output_item.added", response_id=response.id, output_index=0, item=item),
            frame("conversation.item.added", previous_item_id=previous, item=item),
            frame("response.content_part.added", **response.place, content_index=0, part=part),
        ]

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
            return [_own(event)]
        response.item = event.item
        return [*self._part_done(response), _own(event)]

    def _done(self, event: ResponseDone) -> list[Frame]:
        response = self._responses.pop(event.response_id, _Response(event.response_id))
        told = [] if response.created else [self._tell_created(response)]
        told += self._part_done(response)
        output: list[object] = []
        if response.item is not None:
            if response.item.status == "in_progress":  # it was deleted meanwhile
                response.item = replace(response.item, status="incomplete")
            item = to_builtins(response.item)
            kind = "response.output_item.done"
            told.append(frame(kind, response_id=response.id, output_index=0, item=item))
            output.append(item)
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
