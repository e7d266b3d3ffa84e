"""What one turn showed a client: its text, its times, its failure. No clock, no network."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import aiohttp

from .identity import Explanation, TokenChoice

Outcome = Literal["completed", "incomplete", "failed", "error"]


class ArmFailure(Exception):
    """A turn without a whole answer.

    ``outcome``: ``failed`` = the server said so; ``incomplete`` = the stream ended early or was
    cancelled; ``error`` = the client could not reach the server or gave up waiting.
    """

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome: Outcome = outcome


@dataclass(slots=True)
class Answer:
    """What one turn showed, in milliseconds from the request or commit; None = did not happen.

    ``draft_adopted``: tokens of a draft were ready at the commit and became the answer.
    ``explanation`` is a later run of the same request with logprobs, when one was needed.
    """

    outcome: Outcome = "incomplete"
    error: str | None = None
    text: str = ""
    tokens: list[TokenChoice] = field(default_factory=list)
    explanation: Explanation | None = None
    ttft_ms: float | None = None
    total_ms: float | None = None
    arrivals_ms: list[float] = field(default_factory=list)
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    server_ttft_ms: float | None = None
    timings: dict[str, Any] | None = None
    ledger: dict[str, Any] | None = None
    draft_adopted: bool | None = None
    prefilled_tokens: int | None = None
    key_late_ms: list[float] = field(default_factory=list)

    def take(self, at_ms: float, text: str, tokens: Sequence[TokenChoice] = ()) -> None:
        """Add a piece of answer that arrived ``at_ms``; an empty one does not count."""
        if not text and not tokens:
            return
        self.arrivals_ms.append(at_ms)
        self.tokens += (replace(token, start=len(self.text)) for token in tokens)
        self.text += text
        if text and self.ttft_ms is None:
            self.ttft_ms = at_ms

    def take_usage(self, usage: dict[str, Any] | None) -> None:
        """Keep prompt and cached tokens, in OpenAI's or LiveMind's nesting."""
        if usage:
            self.prompt_tokens = usage.get("prompt_tokens")
            details = usage.get("prompt_tokens_details") or {}
            self.cached_tokens = usage.get("cached_tokens", details.get("cached_tokens"))


@asynccontextmanager
async def reported(answer: Answer) -> AsyncGenerator[None, None]:
    """Write a failure into the answer instead of raising it."""
    try:
        yield
    except* ArmFailure as group:
        failure = _first(group)
        answer.outcome, answer.error = getattr(failure, "outcome", "error"), str(failure)
    except* (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError) as group:
        if answer.error is None:  # a reason given by the server says more than the broken socket
            failure = _first(group)
            answer.outcome, answer.error = "error", f"{type(failure).__name__}: {failure}"


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def error_text(body: str) -> str:
    """Return the message of an error envelope, or the beginning of what came instead."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200]
