"""What a conversation is made of: messages, their images, the tools that they call.

Values only; ``base.py`` gives them to everyone else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from msgspec import Struct

Role = Literal["template", "system", "documents", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Image:
    """A picture as it came, encoded: ``media_type`` is ``image/png`` and the like."""

    media_type: str
    data: bytes = field(repr=False)


class ToolCall(Struct, frozen=True):
    """A function that an answer asks to be called.

    Attributes:
        id: what the result refers to.
        name: of the function.
        arguments: as the model wrote them: JSON, unless it made a mistake.
    """

    id: str
    name: str
    arguments: str


class ToolCallDelta(Struct, frozen=True):
    """A piece of a tool call: the first one has ``id`` and ``name``, all have ``index``."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class MessageDetails(Struct, frozen=True):
    """What a message holds beside its text and images.

    Attributes:
        name: of who speaks, or of the function whose result it is; None = not told.
        tool_calls: of an assistant's message.
        tool_call_id: of the call whose result this is (role ``tool``).
        reasoning: what the assistant thought before it answered; templates may leave it out.
    """

    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: str | None = None


NO_DETAILS = MessageDetails()


class Message(Struct, frozen=True):
    """One message of a conversation; its images stand before its text.

    ``role`` is ``system``, ``user``, ``assistant``, ``tool`` (what a function returned) or one of
    LiveMind's own. ``documents`` is a block of passages that stands beside the user's turn: experts
    whose chat template does not know it fold the block into the neighbouring user message (before
    or after its text, where the block stands). ``template`` comes first and is said by nobody: a
    JSON object of what the chat template is given beside the messages, ``tools`` among it.
    """

    role: Role
    content: str
    images: tuple[Image, ...] = ()
    details: MessageDetails = NO_DETAILS


def template_options(messages: Sequence[Message]) -> Mapping[str, Any]:
    """Return what the chat template is given beside the messages; not to be changed."""
    return _decoded(messages[0].content) if messages and messages[0].role == "template" else {}


@lru_cache(64)
def _decoded(content: str) -> Mapping[str, Any]:
    options: dict[str, Any] = json.loads(content)
    return options


def joined_calls(pieces: Sequence[ToolCallDelta]) -> tuple[ToolCall, ...]:
    """Return the calls that these pieces make up, in order."""
    calls: dict[int, ToolCall] = {}
    for piece in pieces:
        was = calls.get(piece.index, ToolCall("", "", ""))
        calls[piece.index] = ToolCall(
            piece.id or was.id, piece.name or was.name, was.arguments + piece.arguments
        )
    return tuple(calls[index] for index in sorted(calls))
