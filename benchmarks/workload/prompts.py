"""A user's own prompts: one JSON object per line, each a conversation.

``question`` (one turn) or ``messages`` (every user message is a turn; the assistant's are left out,
since every arm goes on from its own answers; opening system messages are the instructions),
optional ``documents`` and ``max_tokens``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..bench import UsageError
from .conversations import Conversation
from .json_lines import read_lines

MAX_CHARS = 1_000_000


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1, max_length=MAX_CHARS)


class _Prompt(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    question: str | None = Field(None, min_length=1, max_length=MAX_CHARS)
    messages: list[_Message] | None = Field(None, min_length=1, max_length=1000)
    documents: list[str] = Field(default=[], max_length=64)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)


def read_prompts(file: Path) -> tuple[Conversation, ...]:
    """Return the conversations of a JSONL file, in its order.

    Raises:
        UsageError: naming file, line and field; or the file has no prompt.
    """
    read = read_lines("--prompts", file, _Prompt, "prompt")
    return tuple(_conversation(prompt, where) for where, prompt in read)


def _conversation(prompt: _Prompt, where: str) -> Conversation:
    if (prompt.question is None) == (prompt.messages is None):
        raise UsageError(f"{where}: question: give question or messages, one of them")
    messages = prompt.messages or [_Message(role="user", content=prompt.question or "")]
    questions = tuple(m.content for m in messages if m.role == "user")
    for number, question in enumerate(questions):
        if not question.strip():
            raise UsageError(f"{where}: messages: user message {number} is blank")
    if messages[-1].role != "user":
        raise UsageError(f"{where}: messages: the last one must be the user's")
    opening = [m.role for m in messages].index("user")
    if any(m.role == "system" for m in messages[opening:]) or any(
        m.role == "assistant" for m in messages[:opening]
    ):
        raise UsageError(f"{where}: messages: need system messages first, then the user's")
    instructions = "\n\n".join(m.content for m in messages[:opening]) or None
    return Conversation(questions, tuple(prompt.documents), instructions, prompt.max_tokens)
