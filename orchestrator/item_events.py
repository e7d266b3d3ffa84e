"""Events about the conversation's items and about input that is not taken; see ``events``."""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import Struct

ItemStatus = Literal["completed", "incomplete", "in_progress"]


class ItemContent(Struct, frozen=True):
    """A part of an item: what went in, or what came out."""

    type: Literal["input_text", "output_text"]
    text: str


class ConversationItem(Struct, frozen=True):
    """An item of a conversation as the OpenAI Realtime API shows it."""

    id: str
    role: Literal["system", "user", "assistant"]
    status: ItemStatus
    content: tuple[ItemContent, ...]
    type: Literal["message"] = "message"
    object: Literal["realtime.item"] = "realtime.item"


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
