"""The client's frames of the live protocol."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, ValidationInfo, model_validator

from ...heard import SpokenWord
from ...item_events import Item, new_item_id
from ..content import refusal
from ..schema import INT64_MAX, check_length
from ..strict import Strict
from .schema import SessionConfig, TurnId

MAX_WORDS = 4096

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
    turn_id: TurnId | None = None

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
    """``response.cancel``: end the running response, or this one alone."""

    type: Literal["response.cancel"]
    event_id: EventId | None = None
    response_id: str | None = Field(None, max_length=128)


class ItemPart(Strict):
    """A part of an item's content."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class NewItem(Strict):
    """An item as a client creates it."""

    id: str | None = Field(None, min_length=1, max_length=64)
    object: Literal["realtime.item"] | None = None
    type: Literal["message"]
    role: Literal["system", "user", "assistant"]
    status: Literal["completed", "incomplete"] | None = None
    content: list[ItemPart] = Field(min_length=1, max_length=64)

    @property
    def item(self) -> Item:
        """The item; its texts are joined with newlines."""
        text = "\n".join(part.text for part in self.content)
        return Item(self.id or new_item_id(), self.role, text, (), self.status or "completed")


class ItemCreate(Strict):
    """``conversation.item.create``: something was said elsewhere."""

    type: Literal["conversation.item.create"]
    event_id: EventId | None = None
    previous_item_id: str | None = Field(None, max_length=64)
    item: NewItem

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        check_length(info, "item.content", [part.text for part in self.item.content])
        return self


class Word(Strict):
    """When a word of an answer was spoken, milliseconds from the beginning of its audio."""

    text: str = Field(max_length=256)
    start_ms: float = Field(ge=0)
    end_ms: float = Field(ge=0)


class ItemTruncate(Strict):
    """``conversation.item.truncate``: so much of an answer was heard."""

    type: Literal["conversation.item.truncate"]
    event_id: EventId | None = None
    item_id: str = Field(max_length=64)
    content_index: Literal[0] | None = None
    audio_end_ms: int | None = Field(None, ge=0, le=INT64_MAX)
    characters: int | None = Field(None, ge=0, le=INT64_MAX)
    words: list[Word] | None = Field(None, max_length=MAX_WORDS)
    duration_ms: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.characters is None) == (self.audio_end_ms is None):
            raise refusal("invalid_value", "audio_end_ms", "need it or characters, not both")
        return self

    @property
    def spoken_words(self) -> tuple[SpokenWord, ...]:
        """The words with their times."""
        return tuple(SpokenWord(w.text, w.start_ms, w.end_ms) for w in self.words or ())


class ItemDelete(Strict):
    """``conversation.item.delete``: take it out."""

    type: Literal["conversation.item.delete"]
    event_id: EventId | None = None
    item_id: str = Field(max_length=64)


class ItemRetrieve(Strict):
    """``conversation.item.retrieve``: show it as it stands."""

    type: Literal["conversation.item.retrieve"]
    event_id: EventId | None = None
    item_id: str = Field(max_length=64)


ItemFrame = ItemCreate | ItemTruncate | ItemDelete | ItemRetrieve
Frame = SessionUpdate | Append | Replace | Commit | Clear | Cancel | ItemFrame
FRAME: TypeAdapter[Frame] = TypeAdapter(Annotated[Frame, Field(discriminator="type")])
TAGS = frozenset(
    {
        "session.update",
        "input_text.append",
        "input_text.replace",
        "input_text.commit",
        "input_text.clear",
        "response.cancel",
        "conversation.item.create",
        "conversation.item.truncate",
        "conversation.item.delete",
        "conversation.item.retrieve",
    }
)
