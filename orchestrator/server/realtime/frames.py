"""The client's frames on ``/v1/realtime``: those of the OpenAI Realtime API that are about text.

Those about partial text, and most about items, are the live protocol's own. What belongs to audio
and stored prompts is refused by name; a field that says nothing (null, an empty list) is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_hex
from typing import Annotated, Any, Literal, Self, get_args

from msgspec import json
from pydantic import (
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ....backends.base import MessageDetails, ToolCall
from ...errors import InvalidRequest
from ...item_events import Item, new_item_id
from ..content import refusal
from ..live import frames as live
from ..live.schema import SessionConfig
from ..schema import INT32_MAX, check_length, check_total
from ..strict import Strict
from ..tools import MAX_TOOLS, Choice, FlatTool, FunctionName, nested_choice

ItemId = Annotated[str, Field(min_length=1, max_length=64)]

UNSUPPORTED_FRAMES = {
    "input_audio_buffer.append": "audio input",
    "input_audio_buffer.clear": "audio input",
    "input_audio_buffer.commit": "audio input",
    "output_audio_buffer.clear": "audio output",
    "transcription_session.update": "transcription",
}
UNSUPPORTED_FIELDS = {
    "audio": "audio is not supported by this server",
    "include": "nothing can be included",
    "input": "a response is about the session's conversation",
    "prompt": "stored prompts are not supported by this server",
    "reasoning": "reasoning is not supported by this server",
    "tracing": "tracing is not supported by this server",
}
ELSEWHERE = ("model", "expert", "instructions", "messages")


def _said(value: object, path: str) -> str | None:
    """Return the path of the first thing in ``value`` that says something, None without any."""
    if value is None or value == []:
        return None
    if isinstance(value, dict):
        found = (_said(inner, f"{path}.{name}") for name, inner in value.items())
        return next((place for place in found if place is not None), None)
    return path


def _only_text(value: Any) -> Any:
    """Return the fields without those that say nothing; refuse what cannot be done."""
    if not isinstance(value, dict):
        return value
    for name, message in UNSUPPORTED_FIELDS.items():
        if (place := _said(value.get(name), name)) is not None:
            raise refusal("unsupported_parameter", place, message)
    modalities = value.get("output_modalities")
    if isinstance(modalities, list) and "audio" in modalities:
        raise refusal("unsupported_parameter", "output_modalities", 'only ["text"]: no audio')
    if value.get("conversation") == "none":
        message = "a response is part of the session's conversation"
        raise refusal("unsupported_parameter", "conversation", message)
    return {name: content for name, content in value.items() if name not in UNSUPPORTED_FIELDS}


class Wish(Strict):
    """What a session and one response have in common."""

    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=INT32_MAX)
    output_modalities: list[Literal["text"]] | None = Field(None, min_length=1, max_length=1)
    tools: list[FlatTool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: Annotated[Choice, BeforeValidator(nested_choice)] | None = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, value: Any) -> Any:
        return _only_text(value)

    @field_validator("max_output_tokens", mode="before")
    @classmethod
    def _unlimited(cls, value: Any) -> Any:
        return None if value == "inf" else value

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        check_length(info, "instructions", [self.instructions or ""])
        told = [tool.nested() for tool in self.tools or ()]
        check_total(info, "tools", len(json.encode(told)))
        return self

    @property
    def says_limit(self) -> bool:
        """Whether ``max_output_tokens`` was given; None then means unlimited."""
        return "max_output_tokens" in self.model_fields_set


class LiveOptions(SessionConfig):
    """``session.livemind``: options of a live session that the API does not have.

    ``events``: events that the API does not have are sent too.
    """

    events: bool | None = None

    @model_validator(mode="after")
    def _refuse_twice(self) -> Self:
        for name in ELSEWHERE:
            if name in self.model_fields_set:
                raise refusal("unsupported_parameter", name, "has a place of its own in the API")
        return self


class RealtimeSession(Wish):
    """``session`` of ``session.update``; only the given fields change."""

    type: Literal["realtime"]
    model: str | None = Field(None, min_length=1, max_length=256)
    truncation: Literal["auto", "disabled"] | None = None
    livemind: LiveOptions | None = None

    @property
    def config(self) -> SessionConfig:
        """The same as a live session is told it, but for ``max_output_tokens``."""
        own = self.livemind or LiveOptions()
        fields = {name: getattr(own, name) for name in own.model_fields_set - {"events"}}
        if "model" in self.model_fields_set:
            fields["model"] = self.model
        if "instructions" in self.model_fields_set:
            fields["instructions"] = self.instructions or None
        return SessionConfig.model_construct(_fields_set=set(fields), **fields)


class FunctionCall(Strict):
    """An item: a call that an answer made elsewhere."""

    id: ItemId | None = None
    object: Literal["realtime.item"] | None = None
    type: Literal["function_call"]
    status: Literal["completed", "incomplete", "in_progress"] | None = None
    call_id: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    name: FunctionName
    arguments: str

    @property
    def item(self) -> Item:
        """The item."""
        call = ToolCall(self.call_id or f"call_{token_hex(8)}", self.name, self.arguments)
        details = MessageDetails(tool_calls=(call,))
        return Item(self.id or new_item_id(), "assistant", "", details=details)


class FunctionCallOutput(Strict):
    """An item: what a function returned."""

    id: ItemId | None = None
    object: Literal["realtime.item"] | None = None
    type: Literal["function_call_output"]
    status: Literal["completed", "incomplete", "in_progress"] | None = None
    call_id: str = Field(min_length=1, max_length=512)
    output: str

    @property
    def item(self) -> Item:
        """The item."""
        details = MessageDetails(tool_call_id=self.call_id)
        return Item(self.id or new_item_id(), "tool", self.output, details=details)


class ItemCreate(live.ClientFrame):
    """``conversation.item.create``: something was said elsewhere, called, or returned."""

    type: Literal["conversation.item.create"]
    previous_item_id: str | None = Field(None, max_length=64)
    item: Annotated[live.NewItem | FunctionCall | FunctionCallOutput, Field(discriminator="type")]

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        match self.item:
            case live.NewItem():
                check_length(info, "item.content", [part.text for part in self.item.content])
            case FunctionCall():
                check_length(info, "item.arguments", [self.item.arguments])
            case FunctionCallOutput():
                check_length(info, "item.output", [self.item.output])
        return self


class SessionUpdate(live.ClientFrame):
    """``session.update``."""

    type: Literal["session.update"]
    session: RealtimeSession


MetadataName = Annotated[str, Field(max_length=64)]
MetadataText = Annotated[str, Field(max_length=512)]


class ResponseWish(Wish):
    """``response`` of ``response.create``: for this response alone."""

    conversation: Literal["auto"] | None = None
    metadata: dict[MetadataName, MetadataText] | None = Field(None, max_length=16)


class ResponseCreate(live.ClientFrame):
    """``response.create``: answer what was said last."""

    type: Literal["response.create"]
    response: ResponseWish | None = None


TextFrame = live.Append | live.Replace | live.Commit | live.Clear
ItemFrame = ItemCreate | live.ItemTruncate | live.ItemDelete | live.ItemRetrieve
Frame = SessionUpdate | ResponseCreate | live.Cancel | ItemFrame | TextFrame
FRAME: TypeAdapter[Frame] = TypeAdapter(Annotated[Frame, Field(discriminator="type")])
TAGS = live.tags_of(get_args(Frame)) | {
    f"item.{kind}" for kind in ("message", "function_call", "function_call_output")
}


def unsupported(frame: Mapping[str, object]) -> InvalidRequest | None:
    """Return the refusal of a frame that the API has and this server does not; else None."""
    kind = frame.get("type")
    what = UNSUPPORTED_FRAMES.get(kind) if isinstance(kind, str) else None
    if what is None:
        return None
    message = f"{kind}: {what} is not supported by this server"
    return InvalidRequest(message, param="type", code="unsupported_event")
