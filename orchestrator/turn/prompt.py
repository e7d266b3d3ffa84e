"""The append-only prompt layout: [system][history][documents][user text][late documents][follow].

Pure functions from conversation state to messages. The user's text grows at the end, so that every
earlier token stays a valid prefix; documents are rendered byte-identically, without scores or ids.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from ...backends.base import Image, Message
from ...rag.base import Passage


class Context(Struct, frozen=True):
    """What stands before the user's text.

    Attributes:
        instructions: system message, None for none.
        history: earlier turns, their document blocks included, oldest first.
        attached: documents that the caller gave for this turn.
        frozen: retrieved passages in first-seen order.
        images: of the current turn; they stand before its text.
        late: passages that arrived after the freeze; they stand behind the user's text.
        follow: what else stands behind it in this turn: a tool's results, an instruction.
        template: what the chat template is given beside the messages, as JSON; see ``Message``.
    """

    instructions: str | None = None
    history: tuple[Message, ...] = ()
    attached: tuple[str, ...] = ()
    frozen: tuple[Passage, ...] = ()
    late: tuple[Passage, ...] = ()
    images: tuple[Image, ...] = ()
    follow: tuple[Message, ...] = ()
    template: str | None = None

    @property
    def head(self) -> tuple[Message, ...]:
        """What stands before the history."""
        template = (Message("template", self.template),) if self.template else ()
        system = (Message("system", self.instructions),) if self.instructions else ()
        return (*template, *system)

    @property
    def image_count(self) -> int:
        """How many images the conversation holds, earlier turns included."""
        return len(self.images) + sum(len(message.images) for message in self.history)

    @property
    def messages_before(self) -> int:
        """How many messages stand before the current turn's own."""
        return len(self.history) + len(self.head)


def render_documents(texts: Sequence[str], first: int = 1) -> str:
    """Return passages as ``[n] text`` lines, numbered from ``first``."""
    return "\n".join(f"[{n}] {text}" for n, text in enumerate(texts, first))


def turn_messages(context: Context, text: str, *, open_turn: bool = False) -> tuple[Message, ...]:
    """Return the messages of the current turn alone: documents, user, late documents, follow.

    Trailing white space of a finished text does not count: it is typed, not meant. In an open turn
    it stays, since it tells that the last word is complete; late documents have no place there yet.
    """
    before = [*context.attached, *(passage.text for passage in context.frozen)]
    messages = []
    if before:
        messages.append(Message("documents", render_documents(before)))
    said = text if open_turn else text.rstrip()
    if said or context.images or not context.follow:
        messages.append(Message("user", said, context.images))
    if context.late and not open_turn:
        late = [passage.text for passage in context.late]
        messages.append(Message("documents", render_documents(late, len(before) + 1)))
    return (*messages, *(() if open_turn else context.follow))


def build(context: Context, text: str, *, open_turn: bool = False) -> tuple[Message, ...]:
    """Return the whole conversation, ending in the current turn."""
    return (*context.head, *context.history, *turn_messages(context, text, open_turn=open_turn))


def without_documents(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return the conversation as a client that knows nothing of documents sees it."""
    return tuple(message for message in messages if message.role != "documents")
