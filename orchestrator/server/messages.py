"""Messages as clients of OpenAI's API have them: with every field of the API's own objects.

Owns what is taken, what is passed over because it asks for nothing, and what a message becomes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import dropwhile, takewhile
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

from ...backends.base import Image, Message, MessageDetails, ToolCall
from .content import refusal, split
from .strict import Strict

MAX_MESSAGES = 2048
MAX_TOOL_CALLS = 128
TOLD = frozenset(
    {
        "annotations",
        "cache_control",
        "id",
        "index",
        "object",
        "parsed",
        "provider_specific_fields",
        "reasoning_details",
        "status",
        "thinking_blocks",
        "type",
        "weight",
    }
)
"""Fields that tell of a message what no chat template asks for: any value of them is taken."""
OPTIONAL_CONTENT = frozenset({"assistant", "tool", "function"})
Name = Annotated[str, Field(max_length=256)]


class CalledFunction(Strict):
    """``function`` of a tool call; its arguments may be no JSON, if a model wrote them."""

    name: Name
    arguments: str = ""


class MessageToolCall(Strict):
    """A call that an assistant's message made."""

    id: Annotated[str, Field(max_length=512)] = ""
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Strict):
    """One message; text parts are joined with newlines, images come before the text."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str
    name: Name | None = None
    tool_calls: list[MessageToolCall] | None = Field(None, max_length=MAX_TOOL_CALLS)
    tool_call_id: Annotated[str, Field(max_length=512)] | None = None
    reasoning_content: str | None = None
    _urls: tuple[tuple[int, str], ...] = PrivateAttr(())

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, dict):
            return handler(value)
        fields = _normal(value)
        urls: tuple[tuple[int, str], ...] = ()
        if isinstance(fields.get("content"), list):
            fields["content"], urls = split(fields["content"])
        message = handler(fields)
        if urls and message.role != "user":
            place = f"content[{urls[0][0]}]"
            raise refusal("unsupported_content", place, "only a user message may hold images")
        message._urls = urls
        return message

    def image_urls(self) -> tuple[tuple[int, str], ...]:
        """Return (place among the parts, URL) of each image."""
        return self._urls

    def images(self, loaded: Mapping[str, Image]) -> tuple[Image, ...]:
        """Return its images, given those of all URLs."""
        return tuple(loaded[url] for _, url in self._urls)

    @property
    def says(self) -> bool:
        """Whether it has text, images, or calls."""
        return bool(self.content.strip() or self._urls or self.tool_calls)

    @property
    def length(self) -> int:
        """Characters of everything that a template may show."""
        calls = self.tool_calls or ()
        called = sum(len(call.function.arguments) + len(call.function.name) for call in calls)
        return len(self.content) + len(self.reasoning_content or "") + called

    def said(self, loaded: Mapping[str, Image]) -> Message:
        """Return the message as experts take it; developers speak as the system."""
        role = self.role
        calls = tuple(
            ToolCall(call.id, call.function.name, call.function.arguments)
            for call in self.tool_calls or ()
        )
        return Message(
            "system" if role == "developer" else "tool" if role == "function" else role,
            self.content,
            self.images(loaded),
            MessageDetails(self.name, calls, self.tool_call_id, self.reasoning_content or None),
        )


def _normal(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message's fields without those that tell nothing, old ones in their new names.

    Raises:
        PydanticCustomError: a field that would have to count and cannot.
    """
    fields = {
        name: content
        for name, content in value.items()
        if name not in TOLD and content is not None and content != [] and content != {}
    }
    role = fields.get("role")
    optional = role in OPTIONAL_CONTENT or "content" in value
    if "content" not in fields and optional:
        fields["content"] = ""
    if "audio" in fields:
        raise refusal("unsupported_content", "audio", "no answer of this server has audio")
    reasoning = fields.pop("reasoning", None)
    if reasoning is not None:
        fields.setdefault("reasoning_content", reasoning)
    declined = fields.pop("refusal", None)
    if isinstance(declined, str) and not fields.get("content"):
        fields["content"] = declined
    if (called := fields.pop("function_call", None)) is not None:
        fields.setdefault("tool_calls", [{"function": called}])
    if isinstance(fields.get("tool_calls"), list):
        fields["tool_calls"] = [_call(call) for call in fields["tool_calls"]]
    return fields


def _call(call: Any) -> Any:
    """Return a call without what its makers tell beside it."""
    if not isinstance(call, dict):
        return call
    kept = {name: call[name] for name in ("id", "type", "function") if call.get(name) is not None}
    if isinstance(function := kept.get("function"), dict):
        names = ("name", "arguments")
        kept["function"] = {
            name: function[name] for name in names if function.get(name) is not None
        }
    return kept


def opening_instructions(messages: Sequence[ChatMessage]) -> str | None:
    """Return the system messages that open a conversation as one, None without any."""
    opening = list(takewhile(is_instruction, messages))
    return "\n\n".join([message.content for message in opening]) if opening else None


def spoken(messages: Sequence[ChatMessage], loaded: Mapping[str, Image]) -> tuple[Message, ...]:
    """Return what stands behind the system messages that open a conversation."""
    return tuple(message.said(loaded) for message in dropwhile(is_instruction, messages))


def is_instruction(message: ChatMessage) -> bool:
    """Whether the system speaks."""
    return message.role in ("system", "developer")
