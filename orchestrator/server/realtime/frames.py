"""The client's frames on ``/v1/realtime``: those of the OpenAI Realtime API that are about text.

Those about items and about partial text are the live protocol's own. What belongs to audio, tools
and stored prompts is refused by name; a field that says nothing (null, an empty list) is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, TypeAdapter, ValidationInfo, field_validator, model_validator

from ...errors import InvalidRequest
from ..content import refusal
from ..live import frames as live
from ..live.schema import SessionConfig
from ..schema import INT32_MAX, check_length
from ..strict import Strict

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
    "parallel_tool_calls": "tools are not supported by this server",
    "prompt": "stored prompts are not supported by this server",
    "reasoning": "reasoning is not supported by this server",
    "tools": "tools are not supported by this server",
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
    if value.get("tool_choice") not in (None, "auto", "none"):
        raise refusal("unsupported_parameter", "tool_choice", UNSUPPORTED_FIELDS["tools"])
    if value.get("conversation") == "none":
        message = "a response is part of the session's conversation"
        raise refusal("unsupported_parameter", "conversation", message)
    left_out = {*UNSUPPORTED_FIELDS, "tool_choice"}
    return {name: content for name, content in value.items() if name not in left_out}


class Wish(Strict):
    """What a session and one response have in common."""

    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=INT32_MAX)
    output_modalities: list[Literal["text"]] | None = Field(None, min_length=1, max_length=1)

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
Frame = SessionUpdate | ResponseCreate | live.Cancel | live.ItemFrame | TextFrame
FRAME: TypeAdapter[Frame] = TypeAdapter(Annotated[Frame, Field(discriminator="type")])
TAGS = live.tags_of(get_args(Frame))


def unsupported(frame: Mapping[str, object]) -> InvalidRequest | None:
    """Return the refusal of a frame that the API has and this server does not; else None."""
    kind = frame.get("type")
    what = UNSUPPORTED_FRAMES.get(kind) if isinstance(kind, str) else None
    if what is None:
        return None
    message = f"{kind}: {what} is not supported by this server"
    return InvalidRequest(message, param="type", code="unsupported_event")
