"""A hidden answer: its tokens wait here until the input is committed, or are thrown away.

Owns the buffer of one draft and whether it can be continued. Decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from msgspec.structs import replace

from ...backends.base import Capabilities, Chunk, GenerationParams, TokenPrompt, Usage, joined
from ..consensus.report import Report
from ..consensus.task import CommitClock, tokens_of
from .prefill import ExpertPrefill
from .values import DraftState

DraftStatus = Literal["waiting", "running", "paused", "complete", "adopted", "dropped"]


@dataclass(slots=True)
class Draft:
    """The buffer of one draft.

    Attributes:
        plan: what is drafted.
        prompt: the rendered prompt of its expert, once known.
        chunks: what was generated in hiding, in order.
        tokens: tokens in them.
        status: ``paused`` = the engine's request was ended early, the rest can be generated later.
        task: who generates it.
        prefill: the session's prefill of the same expert, None without one.
        groups: the compute groups of all experts that write it, once known.
        delivered: after adoption, tells the gate of streamed tokens.
        report: how it came to be.
        clock: begins when it is adopted.
        tokenizer_id: of its expert, None = unknown.
        begun_s, newest_s: when its expert was asked and when its newest chunk came.
    """

    plan: DraftState
    prompt: TokenPrompt | None = None
    chunks: list[Chunk] = field(default_factory=list)
    tokens: int = 0
    status: DraftStatus = "waiting"
    task: asyncio.Task[None] | None = None
    prefill: ExpertPrefill | None = None
    groups: tuple[str, ...] = ()
    delivered: Callable[[int], None] = lambda tokens: None
    report: Report = field(default_factory=Report)
    clock: CommitClock = field(default_factory=CommitClock)
    tokenizer_id: str | None = None
    begun_s: float | None = None
    newest_s: float = 0.0

    @property
    def busy_s(self) -> float:
        """Return how long its expert has worked on it, up to the newest chunk."""
        return 0.0 if self.begun_s is None else max(0.0, self.newest_s - self.begun_s)

    @property
    def spent(self) -> int:
        """Return all tokens generated for it, those that no chunk holds included."""
        return self.tokens + self.report.aside

    def add(self, chunk: Chunk) -> None:
        """Keep a chunk."""
        self.chunks.append(chunk)
        self.tokens += tokens_of(chunk)
        if chunk.finish_reason is not None:
            self.status = "complete"

    def cut(self) -> int:
        """Cut back to where another request can go on; return how many tokens that costs.

        A chunk of several tokens, or one without text, may end inside a character: a decoder that
        begins there would decode the prompt again.
        """
        before = self.tokens
        while self.chunks and (len(self.chunks[-1].token_ids) != 1 or not self.chunks[-1].text):
            self.tokens -= tokens_of(self.chunks.pop())
        return before - self.tokens

    def limit(self, max_tokens: int | None, may_continue: bool) -> int | None:
        """Become what the draft would be with another ``max_tokens``.

        One that ended by itself within the limit stays as it is. Another is cut to the limit, and
        what is missing is generated later.

        Returns:
            How many tokens that costs; None if it cannot be.
        """
        if self.status in ("waiting", "dropped"):  # its answer begins anew
            return 0
        ended = self.status == "complete" and self.chunks[-1].finish_reason == "stop"
        if ended and (max_tokens is None or self.tokens <= max_tokens):
            return 0
        if not may_continue or self.prompt is None:
            return None
        before = self.tokens
        while self.chunks and max_tokens is not None and self.tokens > max_tokens:
            self.tokens -= tokens_of(self.chunks.pop())
        self.cut()
        if not self.chunks:
            return None
        full = self.tokens == max_tokens
        self.chunks[-1] = replace(
            self.chunks[-1],
            finish_reason="length" if full else None,
            usage=Usage(self.prompt.num_tokens, self.tokens) if full else None,
        )
        self.status = "complete" if full else "paused"
        return before - self.tokens

    def joined(self) -> Chunk:
        """Return everything drafted as one chunk."""
        return joined(self.chunks)

    def token_ids(self) -> tuple[int, ...]:
        """Return all tokens drafted so far."""
        return tuple(token for chunk in self.chunks for token in chunk.token_ids)


def continuable(params: GenerationParams, prompt: TokenPrompt) -> bool:
    """Return whether an answer cut off by tokens continues exactly as if it had not been.

    Penalties count generated tokens, a seed counts draws and a stop string may span the cut; a
    grammar and who reads thoughts and calls out of an answer begin at its first token. With any of
    them the second request would differ. Without local tokens there is nothing to cut at.
    """
    penalties = params.presence_penalty or params.frequency_penalty
    repetition = params.repetition_penalty not in (None, 1.0)
    fixed = params.seed is not None or bool(params.stop or params.min_tokens or params.structured)
    return bool(prompt.token_ids) and not (penalties or repetition or fixed or prompt.read)


def continuation(
    draft: Draft, params: GenerationParams, capabilities: Capabilities
) -> tuple[TokenPrompt, GenerationParams]:
    """Return the request that generates the rest of a paused draft, no longer than it would be."""
    assert draft.prompt is not None
    ids = draft.prompt.token_ids + draft.token_ids()
    prompt = replace(draft.prompt, token_ids=ids, num_tokens=len(ids))
    params = replace(params, prediction=None)  # it speaks of the answer from its beginning
    limit = params.max_tokens or capabilities.max_tokens_default
    if limit is not None:
        limit -= draft.tokens
        if capabilities.max_model_len is not None:
            limit = min(limit, capabilities.max_model_len - len(ids))
        params = replace(params, max_tokens=limit)
    return prompt, params


def joined_usage(draft: Draft, rest: Usage) -> Usage:
    """Return the usage of draft and continuation as one answer.

    The cached tokens of the first request were not reported when it was cut off; what the second
    one found beyond the drafted tokens is a lower bound.
    """
    assert draft.prompt is not None
    cached = rest.cached_tokens
    if cached is not None:
        cached = min(cached, draft.prompt.num_tokens)
    return replace(
        rest,
        prompt_tokens=draft.prompt.num_tokens,
        completion_tokens=draft.tokens + rest.completion_tokens,
        cached_tokens=cached,
    )
