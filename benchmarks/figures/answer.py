"""What one turn showed a client: its input, its text, its times, its failure. No clock, no network.

Moments are seconds of ``perf_counter``, as they were read; ``measure.py`` makes durations of them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import h11

from ...backends.base import Chunk
from ...orchestrator.errors import LiveMindError
from .identity import Comparison, TokenChoice

Json = dict[str, Any]
Number = float | None
"""A figure; None = not known."""
Outcome = Literal["completed", "incomplete", "failed", "error"]
OUTCOMES: tuple[Outcome, ...] = ("completed", "failed", "incomplete", "error")
_OUTCOME_OF_CODE: dict[str, Outcome] = {
    "connection_lost": "incomplete",
    "unreachable": "error",
    "timeout": "error",
}


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
    """One turn; None = did not happen, or the server does not tell.

    Attributes:
        committed_s: right before the request or the commit was handed to the socket.
        pieces_s: arrival of each piece of text that is not empty.
        tokens: with logprobs, where they were asked for.
        keys_s, replaced_s: when input was sent, appended and replaced.
        late_ms: by how much each input and the commit missed its time.
        events: what the server told besides the answer, as (moment, event).
        documents: ids of the retrieved passages in the prompt; None = the server does not say.
        expert: who answered.
        draft_adopted: tokens of a draft were ready at the commit and became the answer.
        verified_tokens: proposed to the expert and accepted; None = nothing was proposed.
        comparison: with the reference of its block; None = not compared.
    """

    outcome: Outcome = "incomplete"
    error: str | None = None
    text: str = ""
    tokens: list[TokenChoice] = field(default_factory=list)
    committed_s: float | None = None
    ended_s: float | None = None
    pieces_s: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    keys_s: list[float] = field(default_factory=list)
    replaced_s: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    events: list[tuple[float, Json]] = field(default_factory=list)
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    expert: str | None = None
    timings: Json | None = None
    ledger: Json | None = None
    documents: Json | None = None
    draft_adopted: bool | None = None
    verified_tokens: int | None = None
    comparison: Comparison | None = None

    def take(self, at_s: float, text: str, tokens: Sequence[TokenChoice] = ()) -> None:
        """Add a piece of answer; one without text has no arrival."""
        self.tokens += (replace(token, start=len(self.text)) for token in tokens)
        if text:
            self.pieces_s.append(at_s)
            self.sizes.append(len(text))
            self.text += text

    def take_chunk(self, at_s: float, chunk: Chunk) -> None:
        """Add what an engine or a stream of OpenAI's API gave; its finish ends the answer."""
        tokens = (
            TokenChoice(one.token, one.logprob, tuple((text, value) for text, _, value in one.top))
            for one in chunk.logprobs or ()
        )
        self.take(at_s, chunk.text, tuple(tokens))
        if chunk.finish_reason is not None:
            self.outcome, self.ended_s = "completed", at_s

    def take_usage(self, usage: Json | None) -> None:
        """Keep the token counts, in OpenAI's or LiveMind's nesting."""
        if usage:
            self.prompt_tokens = usage.get("prompt_tokens")
            self.completion_tokens = usage.get("completion_tokens")
            details = usage.get("prompt_tokens_details") or {}
            self.verified_tokens = usage.get("accepted_draft_tokens")
            self.cached_tokens = usage.get("cached_tokens", details.get("cached_tokens"))

    def of_type(self, kind: str) -> list[Json]:
        """Return the events of this type, in order."""
        return [event for _, event in self.events if event["type"] == kind]

    def after_commit_ms(self, at_s: float | None) -> float | None:
        """Return a moment as milliseconds from the commit."""
        if at_s is None or self.committed_s is None:
            return None
        return (at_s - self.committed_s) * 1000.0

    @property
    def documents_used(self) -> list[list[str]] | None:
        """Ids of the passages before the text and behind it; None = the server does not say."""
        told = self.documents
        return None if told is None else [list(told["before"]), list(told["behind"])]

    @property
    def ttft_ms(self) -> float | None:
        """Commit to the first piece of text."""
        return self.after_commit_ms(self.pieces_s[0]) if self.pieces_s else None

    @property
    def e2e_ms(self) -> float | None:
        """Commit to the end of the answer."""
        return self.after_commit_ms(self.ended_s)

    @property
    def server_ttft_ms(self) -> float | None:
        """What the server itself measured, commit to first delta."""
        value: float | None = (self.timings or {}).get("ttft_ms")
        return value

    @property
    def prefilled_tokens(self) -> int | None:
        """Prompt tokens known to be ready, from the newest event that tells."""
        told = self.of_type("prefill.updated")
        return int(told[-1]["tokens_ready"]) if told else None


@asynccontextmanager
async def reported(answer: Answer) -> AsyncGenerator[None, None]:
    """Write a failure into the answer instead of raising it."""
    try:
        yield
    except* ArmFailure as group:
        failure = _first(group)
        answer.outcome, answer.error = getattr(failure, "outcome", "error"), str(failure)
    except* LiveMindError as group:
        refused = _first(group)
        code = getattr(refused, "code", None)
        if answer.error is None:
            answer.outcome = _OUTCOME_OF_CODE.get(str(code), "failed")
            answer.error = str(refused)
    except* (h11.ProtocolError, OSError, ValueError, KeyError) as group:
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
