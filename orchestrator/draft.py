"""A hidden answer: its tokens wait here until the input is committed, or are thrown away.

Owns the buffer of one draft and whether it can be continued. Decides nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Literal

from ..backends.base import Chunk, GenerationParams, TokenPrompt, Usage
from .turn import DraftState

DraftStatus = Literal["waiting", "running", "paused", "complete", "adopted", "dropped"]


@dataclass(slots=True)
class Draft:
    """The buffer of one draft.

    Attributes:
        plan: what is drafted.
        prompt: the rendered prompt, once known.
        chunks: what was generated in hiding, in order.
        tokens: tokens in them.
        status: ``paused`` = the engine's request was ended early, the rest can be generated later.
        task: who generates it.
    """

    plan: DraftState
    prompt: TokenPrompt | None = None
    chunks: list[Chunk] = field(default_factory=list)
    tokens: int = 0
    status: DraftStatus = "waiting"
    task: asyncio.Task[None] | None = None

    def add(self, chunk: Chunk) -> None:
        """Keep a chunk."""
        self.chunks.append(chunk)
        self.tokens += len(chunk.token_ids)
        if chunk.finish_reason is not None:
            self.status = "complete"

    def token_ids(self) -> tuple[int, ...]:
        """Return all tokens drafted so far."""
        return tuple(token for chunk in self.chunks for token in chunk.token_ids)


def continuable(params: GenerationParams, prompt: TokenPrompt) -> bool:
    """Return whether an answer cut off by tokens continues exactly as if it had not been.

    Penalties count generated tokens, a seed counts draws and a stop string may span the cut: with
    any of them the second request would differ. Without local tokens there is nothing to cut at.
    """
    penalties = (params.presence_penalty, params.frequency_penalty, params.repetition_penalty)
    return not (any(penalties) or params.seed is not None or params.stop or not prompt.token_ids)


def continuation(draft: Draft, params: GenerationParams) -> tuple[TokenPrompt, GenerationParams]:
    """Return the request that generates the rest of a paused draft."""
    assert draft.prompt is not None
    ids = draft.prompt.token_ids + draft.token_ids()
    prompt = replace(draft.prompt, token_ids=ids, num_tokens=len(ids))
    if params.max_tokens is not None:
        params = replace(params, max_tokens=params.max_tokens - draft.tokens)
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
    return Usage(draft.prompt.num_tokens, draft.tokens + rest.completion_tokens, cached)
