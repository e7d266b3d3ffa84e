"""The client's frames of the live protocol."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, ValidationInfo, model_validator

from ..content import refusal
from ..schema import INT64_MAX, check_length
from ..strict import Strict
from .schema import SessionConfig

EventId = Annotated[str, Field(max_length=128)]
Revision = Annotated[int, Field(ge=0, le=INT64_MAX)]


class SessionUpdate(SessionConfig):
    """``session.update``: its fields stand in the frame, or in ``session`` as OpenAI has it."""

    type: Literal["session.update"]
    event_id: EventId | None = None
    session: SessionConfig | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        twice = self.model_fields_set - {"type", "event_id", "session"}
        if self.session is not None and twice:
            name = min(twice)
            raise refusal("invalid_value", name, "give it inside session or beside it")
        return self

    @property
    def config(self) -> SessionConfig:
        """The fields, wherever they stood."""
        return self.session if self.session is not None else self


class TextFrame(Strict):
    """What frames with text have in common."""

    event_id: EventId | None = None
    text: str
    revision: Revision | None = None

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        check_length(info, "text", [self.text])
        return self


class Append(TextFrame):
    """``input_text.append``: more text at the end of the input."""

    type: Literal["input_text.append"]


class Replace(TextFrame):
    """``input_text.replace``: the whole text so far."""

    type: Literal["input_text.replace"]


class Commit(Strict):
    """``input_text.commit``: the input is final; ``text``, if given, is the final text."""

    type: Literal["input_text.commit"]
    event_id: EventId | None = None
    text: str | None = None
    revision: Revision | None = None

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        check_length(info, "text", [self.text or ""])
        return self


class Clear(Strict):
    """``input_text.clear``: forget the input."""

    type: Literal["input_text.clear"]
    event_id: EventId | None = None


class Cancel(Strict):
    """``response.cancel``: end the running response."""

    type: Literal["response.cancel"]
    event_id: EventId | None = None


Frame = SessionUpdate | Append | Replace | Commit | Clear | Cancel
FRAME: TypeAdapter[Frame] = TypeAdapter(Annotated[Frame, Field(discriminator="type")])
TAGS = frozenset(
    {
        "session.update",
        "input_text.append",
        "input_text.replace",
        "input_text.commit",
        "input_text.clear",
        "response.cancel",
    }
)
