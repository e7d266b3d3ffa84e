"""The items of a conversation, and the events about them and about input that is not taken."""

from __future__ import annotations

from secrets import token_hex
from typing import ClassVar, Literal

from msgspec import Struct

from ..backends.base import Image, Message, MessageDetails

ItemRole = Literal["system", "user", "assistant", "tool"]
ItemStatus = Literal["completed", "incomplete", "in_progress"]


class ItemContent(Struct, frozen=True):
    """A part of an item: what went in, or what came out."""

    type: Literal["input_text", "output_text"]
    text: str


class ConversationItem(Struct, frozen=True):
    """An item of a conversation as the OpenAI Realtime API shows it."""

    id: str
    role: ItemRole
    status: ItemStatus
    content: tuple[ItemContent, ...]
    type: Literal["message"] = "message"
    object: Literal["realtime.item"] = "realtime.item"


class Item(Struct, frozen=True):
    """Something that was said.

    Attributes:
        id: unique in its conversation; ``item_`` and more, unless the client named it.
        status: ``incomplete`` = cut off by a cancel, a failure or a truncation; ``in_progress`` =
            an answer that is still being given.
        before, behind: the passages that a user's text was asked with, as they stand in the prompt
            on its two sides; empty without any.
        in_context: the model still sees it.
        details: what was said beside the text: the calls of an answer, whose result this is.
    """

    id: str
    role: ItemRole
    text: str
    images: tuple[Image, ...] = ()
    status: ItemStatus = "completed"
    before: str = ""
    behind: str = ""
    in_context: bool = True
    details: MessageDetails = MessageDetails()

    @property
    def says(self) -> bool:
        """Whether there is anything in it."""
        return bool(self.text or self.images or self.details.tool_calls or self.role == "tool")

    @property
    def message(self) -> Message:
        """What was said, without passages."""
        return Message(self.role, self.text, self.images, self.details)

    def view(self) -> ConversationItem:
        """Return the item as clients see it; passages are not shown."""
        kind: Literal["input_text", "output_text"] = (
            "output_text" if self.role == "assistant" else "input_text"
        )
        return ConversationItem(self.id, self.role, self.status, (ItemContent(kind, self.text),))

    def messages(self) -> tuple[Message, ...]:
        """Return what the model sees of it: of an item without text and images its passages."""
        if not self.says:
            return (Message("documents", self.before),) if self.before else ()
        said = [self.message]
        if self.before:
            said.insert(0, Message("documents", self.before))
        if self.behind:
            said.append(Message("documents", self.behind))
        return tuple(said)


def new_item_id() -> str:
    """Return an id in the form of the OpenAI API."""
    return f"item_{token_hex(12)}"


class ItemAdded(Struct, frozen=True):
    """An item stands in the conversation; an answer's is still without text."""

    type: ClassVar[str] = "conversation.item.added"
    item: ConversationItem
    previous_item_id: str | None = None


class ItemDone(Struct, frozen=True):
    """An item has its final text and status."""

    type: ClassVar[str] = "conversation.item.done"
    item: ConversationItem
    previous_item_id: str | None = None


class ItemTruncated(Struct, frozen=True):
    """So many characters of an answer were heard; the model sees no more of it.

    ``audio_end_ms`` is what the client said, None when it said characters.
    """

    type: ClassVar[str] = "conversation.item.truncated"
    item_id: str
    characters: int
    audio_end_ms: int | None = None
    content_index: int = 0


class ItemDeleted(Struct, frozen=True):
    """An item is not in the conversation any more."""

    type: ClassVar[str] = "conversation.item.deleted"
    item_id: str


class ItemRetrieved(Struct, frozen=True):
    """An item as it stands, for who asked."""

    type: ClassVar[str] = "conversation.item.retrieved"
    item: ConversationItem


class ConversationTrimmed(Struct, frozen=True):
    """The context was full: so many blocks of passages and items left the model's sight."""

    type: ClassVar[str] = "conversation.trimmed"
    passages: int
    items: int


class InputIgnored(Struct, frozen=True):
    """A text came too late for its turn and is not taken for the next one's.

    ``turn_over``: its ``turn_id`` names a turn that is committed; ``late_transcript``: it is the
    committed text once more, right after the commit.
    """

    type: ClassVar[str] = "input_text.ignored"
    revision: int
    reason: Literal["turn_over", "late_transcript"]
