"""``POST /v1/responses``: its fields, and the chat request that they stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, Self

from msgspec import json
from pydantic import Field, TypeAdapter, model_validator

from ....errors import InvalidRequest, LiveMindError
from ...content import refusal
from ...messages import TOLD
from ...schema import INT32_MAX, Sampling
from ...strict import Strict
from ...tools import MAX_TOOLS, FlatTool, nested_choice
from ...validation import parse
from ..bodies import MAX_TOP_LOGPROBS, ChatRequest, Effort, Label, StreamOptions
from ..neutral import NEUTRAL, Neutral, without_neutral

Json = dict[str, Any]
MAX_ITEMS = 2048
CHAT = TypeAdapter(ChatRequest)
_OWN: dict[str, Neutral] = {
    "background": Neutral("an answer that nobody waits for", (False,)),
    "conversation": Neutral("a conversation kept on the server; use previous_response_id"),
    "include": Neutral(
        "more about the output",
        (["reasoning.encrypted_content"], ["message.output_text.logprobs"], []),
    ),
    "prompt": Neutral("a template kept on the server"),
    "prompt_cache_options": Neutral("how a prompt is kept", ({},)),
    "context_management": Neutral("shortening a conversation", ([],)),
    "moderation": Neutral("a check of the texts"),
}
_PASSED = (
    "model",
    "stream",
    "user",
    "prompt_cache_key",
    "session",
    "parallel_tool_calls",
    "top_logprobs",
)


class TextFormat(Strict):
    """How the answer has to look."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class TextConfig(Strict):
    """``text`` of a request."""

    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None


class Reasoning(Strict):
    """``reasoning`` of a request; summaries are not made."""

    effort: Effort | None = None
    summary: Literal["auto"] | None = None
    generate_summary: Literal["auto"] | None = None


class ResponsesRequest(Sampling):
    """``POST /v1/responses``."""

    model: str | None = Field(None, min_length=1, max_length=256)
    input: str | list[Json] = Field(default="")
    instructions: str | None = None
    previous_response_id: str | None = Field(None, max_length=128)
    stored: bool | None = Field(None, alias="store")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=INT32_MAX)
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    tools: list[FlatTool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: str | Json | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    truncation: Literal["disabled", "auto"] | None = None
    metadata: dict[str, str] | None = Field(None, max_length=64)
    user: Label | None = None
    prompt_cache_key: Label | None = None
    session: Label | None = None
    safety_identifier: Label | None = None
    service_tier: Literal["auto", "default"] | None = None
    max_tool_calls: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _pass_over_neutral(cls, value: Any) -> Any:
        return without_neutral(value, cls, {**NEUTRAL, **_OWN})

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.input, list) and len(self.input) > MAX_ITEMS:
            message = f"got {len(self.input)} items, the limit is {MAX_ITEMS}"
            raise refusal("invalid_value", "input", message)
        return self

    @property
    def keeps(self) -> bool:
        """Whether the response is to be kept."""
        return self.stored is not False

    @property
    def items(self) -> list[Json]:
        """The input as items."""
        if isinstance(self.input, str):
            return [{"type": "message", "role": "user", "content": self.input}]
        return self.input

    def chat(
        self, before: Sequence[Json], *, max_text_chars: int
    ) -> tuple[ChatRequest, list[Json]]:
        """Return the chat request that this stands for, and its messages without instructions.

        Args:
            before: messages of the response that this one follows.
            max_text_chars: see ``parse``.

        Raises:
            LiveMindError: something in it cannot be; ``param`` is a field of this request.
        """
        messages = [*before, *messages_of(self.items)]
        first = [] if self.instructions is None else [said("system", self.instructions)]
        fields: Json = {name: getattr(self, name) for name in _PASSED}
        fields |= {name: getattr(self, name) for name in Sampling.model_fields}
        fields |= {
            "messages": [*first, *messages],
            "max_completion_tokens": self.max_output_tokens,
            "logprobs": bool(self.top_logprobs) or None,
            "tools": [tool.nested() for tool in self.tools or ()],
            "tool_choice": nested_choice(self.tool_choice),
            "response_format": None if self.text is None else _format(self.text.format),
            "reasoning_effort": None if self.reasoning is None else self.reasoning.effort,
            "max_tokens_policy": "clamp" if self.truncation == "auto" else None,
        }
        if self.max_output_tokens is not None:
            fields["max_tokens"] = None
        given = {name: value for name, value in fields.items() if value is not None}
        try:
            request = parse(CHAT, json.encode(given), max_text_chars=max_text_chars)
        except LiveMindError as error:
            raise _in_these_words(error, len(first) + len(before)) from None
        request.calls_limit("max_output_tokens")
        return request, messages


def said(role: str, content: Any, **more: Any) -> Json:
    """Return a message of chat completions."""
    return {"role": role, "content": content, **more}


def messages_of(items: Sequence[Json]) -> list[Json]:
    """Return the messages that input items stand for; calls in a row are one message's.

    Raises:
        InvalidRequest: an item of a kind that there is not here.
    """
    messages: list[Json] = []
    thoughts = ""
    for number, item in enumerate(items):
        kind = item.get("type", "message") if isinstance(item, dict) else None
        last = messages[-1] if messages else None
        if kind == "message":
            message = {k: v for k, v in item.items() if k not in TOLD and k != "phase"}
            if thoughts and message.get("role") == "assistant":
                message["reasoning_content"], thoughts = thoughts, ""
            messages.append(message)
        elif kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments", "")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            if last is None or last.get("role") != "assistant" or last.get("closed"):
                last = said("assistant", "", tool_calls=[])
                messages.append(last)
                if thoughts:
                    last["reasoning_content"], thoughts = thoughts, ""
            last.setdefault("tool_calls", []).append(call)
        elif kind == "function_call_output":
            content = item.get("output", "")
            messages.append(said("tool", content, tool_call_id=item.get("call_id")))
        elif kind == "reasoning":
            parts = item.get("content") or item.get("summary") or []
            thoughts = "\n".join(str(part.get("text", "")) for part in parts)
        else:
            named = kind if isinstance(kind, str) and kind.isidentifier() else "such"
            raise _wrong(f"input[{number}]", f"{named} items are not supported here")
    return messages


def _format(wanted: TextFormat | None) -> Json | None:
    """Return ``text.format`` as the response format of chat completions."""
    if wanted is None:
        return None
    if wanted.type != "json_schema":
        return {"type": wanted.type}
    schema = wanted.model_dump(exclude={"type"}, exclude_none=True, by_alias=True)
    return {"type": "json_schema", "json_schema": schema}


_NAMES = {
    "max_completion_tokens": "max_output_tokens",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
}
_MESSAGE = re.compile(r"^messages\[(\d+)\]")


def _in_these_words(error: LiveMindError, skipped: int) -> LiveMindError:
    """Return an error of the chat request in the names of this one's fields."""
    param = error.param or ""
    for old, new in _NAMES.items():
        if param.startswith(old):
            param = new + param.removeprefix(old)
            break
    if (found := _MESSAGE.match(param)) is not None:
        number = int(found[1]) - skipped
        own = f"input[{number}]" if number >= 0 else "previous_response_id"
        param = own + (param[found.end() :] if number >= 0 else "")
    param = "input" if param == "messages" else param
    message = error.message
    if error.param is not None and message.startswith(error.param):
        message = param + message.removeprefix(error.param)
    return type(error)(message, param=param or None, code=error.code)


def _wrong(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{param}: {message}", param=param, code="unsupported_content")
