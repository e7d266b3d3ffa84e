"""The client's frames of the live protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, TypeAdapter, ValidationInfo, model_validator

from ....backends.base import Message, MessageDetails
from ...errors import InvalidRequest
from ...heard import SpokenWord
from ...item_events import Item, new_item_id
from ..content import refusal
from ..messages import MAX_TOOL_CALLS
from ..schema import INT64_MAX, check_length
from ..strict import Strict
from .schema import SessionConfig, TurnId

MAX_WORDS = 4096

EventId = Annotated[str, Field(max_length=128)]
Revision = Annotated[int, Field(ge=0, le=INT64_MAX)]


class ClientFrame(Strict):
    """What all frames have in common: the client's own name for this one."""

    event_id: EventId | None = None


class SessionUpdate(ClientFrame, SessionConfig):
    """``session.update``: its fields stand in the frame, or in ``session`` as OpenAI has it."""

    type: Literal["session.update"]
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


class TextFrame(ClientFrame):
    """What frames with text have in common."""

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


class ToolResult(Strict):
    """What a function returned that the last answer called."""

    call_id: str = Field(min_length=1, max_length=512)
    output: str


class Commit(ClientFrame):
    """``input_text.commit``: the input is final; ``text``, if given, is the final text.

    ``tool_results`` stand behind it; with them the text may be empty.
    """

    type: Literal["input_text.commit"]
    text: str | None = None
    revision: Revision | None = None
    tool_results: list[ToolResult] | None = Field(None, max_length=MAX_TOOL_CALLS)

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        check_length(info, "text", [self.text or ""])
        check_length(info, "tool_results", [result.output for result in self.tool_results or ()])
        return self

    def follow(self, said: Sequence[Message]) -> tuple[Message, ...]:
        """Return the results as messages, given those of the conversation.

        Raises:
            InvalidRequest: one is of a call that nobody made.
        """
        made = {call.id for message in said for call in message.details.tool_calls}
        for number, result in enumerate(self.tool_results or ()):
            if result.call_id not in made:
                place = f"tool_results[{number}].call_id"
                raise InvalidRequest(f"{place}: no answer made this call", param=place)
        return tuple(
            Message("tool", result.output, details=MessageDetails(tool_call_id=result.call_id))
            for result in self.tool_results or ()
        )


class Clear(ClientFrame):
    """``input_text.clear``: forget the input."""

    type: Literal["input_text.clear"]


class Cancel(ClientFrame):
    """``response.cancel``: end the running response, or this one alone."""

    type: Literal["response.cancel"]
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


class ItemCreate(ClientFrame):
    """``conversation.item.create``: something was said elsewhere."""

    type: Literal["conversation.item.create"]
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


class ItemTruncate(ClientFrame):
    """``conversation.item.truncate``: so much of an answer was heard."""

    type: Literal["conversation.item.truncate"]
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


class ItemDelete(ClientFrame):
    """``conversation.item.delete``: take it out."""

    type: Literal["conversation.item.delete"]
    item_id: str = Field(max_length=64)


class ItemRetrieve(ClientFrame):
    """``conversation.item.retrieve``: show it as it stands."""

    type: Literal["conversation.item.retrieve"]
    item_id: str = Field(max_length=64)


ItemFrame = ItemCreate | ItemTruncate | ItemDelete | ItemRetrieve
Frame = SessionUpdate | Append | Replace | Commit | Clear | Cancel | ItemFrame
FRAME: TypeAdapter[Frame] = TypeAdapter(Annotated[Frame, Field(discriminator="type")])


def tags_of(kinds: Iterable[type[Strict]]) -> frozenset[str]:
    """Return the values of ``type`` that tell these frames apart."""
    return frozenset(get_args(kind.model_fields["type"].annotation)[0] for kind in kinds)


TAGS = tags_of(get_args(Frame))
