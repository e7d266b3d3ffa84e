"""What a live session can be told, over the WebSocket and over plain HTTP alike."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from msgspec import json
from pydantic import Field, ValidationInfo, model_validator

from ....backends.base import Message
from ...options import Interrupt, Segment
from ...turn.passages.documents import Consistency
from ...turn.values import Mode, OnCold, TranscriptsEqual
from ..consensus_schema import ConsensusField
from ..content import refusal
from ..messages import MAX_MESSAGES, ChatMessage, opening_instructions, spoken
from ..schema import INT64_MAX, MAX_DOCUMENTS, CacheSalt, Sampling, check_length, check_total
from ..strict import Strict
from ..tools import MAX_TOOLS, Choice, Tool, chosen

TurnId = Annotated[str, Field(max_length=128)] | Annotated[int, Field(ge=0, le=INT64_MAX)]


class InputConfig(Strict):
    """Where the text of a session comes from; only the given fields change."""

    kind: Literal["auto", "typed", "transcript"] | None = None
    transcripts_equal: TranscriptsEqual | None = None


class SessionConfig(Strict):
    """``session.update`` and ``POST /v1/live/sessions``; only the given fields change."""

    model: str | None = Field(None, min_length=1, max_length=256)
    expert: str | None = Field(None, min_length=1, max_length=256)
    instructions: str | None = None
    consensus: ConsensusField = None
    speculation: Mode | None = None
    retrieval: bool | None = None
    on_cold: OnCold | None = None
    sampling: Sampling | None = None
    documents: list[str] | None = Field(None, max_length=MAX_DOCUMENTS)
    cache_salt: CacheSalt | None = None
    input: InputConfig | None = None
    consistency: Consistency | None = None
    interrupt: Interrupt | None = None
    segment: Segment | None = None
    messages: list[ChatMessage] | None = Field(None, max_length=MAX_MESSAGES)
    tools: list[Tool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="after")
    def _check_config(self, info: ValidationInfo) -> Self:
        if None not in (self.model, self.expert) and self.model != self.expert:
            raise refusal("invalid_value", "expert", "differs from model; give one of them")
        check_length(info, "instructions", [self.instructions or ""])
        check_length(info, "documents", self.documents or [])
        told = [tool.told() for tool in self.tools or ()]
        check_total(info, "tools", len(json.encode(told)))
        chosen(self.tools or (), self.tool_choice)  # refuses a choice without its tools
        messages = self.messages or []
        check_total(info, "messages", sum(message.length for message in messages))
        for number, message in enumerate(messages):
            if message.image_urls():
                place = f"messages[{number}].content"
                raise refusal("unsupported_content", place, "images come with chat completions")
        if self.opening is not None and self.instructions is not None:
            raise refusal("invalid_value", "messages[0].role", "instructions are given beside it")
        return self

    @property
    def opening(self) -> str | None:
        """The instructions that open the messages, None without any."""
        return opening_instructions(self.messages or [])

    @property
    def history(self) -> tuple[Message, ...] | None:
        """The messages behind the instructions; None where none were given at all."""
        return None if self.messages is None else spoken(self.messages, {})


class SessionInput(Strict):
    """``PUT /v1/live/sessions/{id}/input``: the whole text so far."""

    text: str
    revision: int | None = Field(None, ge=0, le=INT64_MAX)
    turn_id: TurnId | None = None

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        check_length(info, "text", [self.text])
        return self
