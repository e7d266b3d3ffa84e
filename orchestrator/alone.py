"""One expert answers one prompt; nothing is prepared, retrieved or settled: there is no session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from ..backends import rendering
from ..backends.base import Chunk, GenerationParams, Message, Priority, TokenPrompt
from .consensus.task import question_of
from .fairness.asker import own_salt
from .rates import DecodeClock
from .turn.shared import Shared


async def answer_alone(
    shared: Shared,
    prompt: str | Sequence[Message],
    params: GenerationParams,
    *,
    expert_id: str | None,
    cache_salt: str | None,
    request_id: str,
    admit: Callable[[], Callable[[], None]],
    on_prompt: Callable[[TokenPrompt], None],
) -> AsyncGenerator[Chunk, None]:
    """Generate in the task of whoever reads; closing the iterator aborts the request.

    Args:
        shared: of the running engine.
        prompt: text to be continued, or a conversation to be answered.
        params: sampling.
        expert_id: who answers; None = routed on the text, or on what the user said last.
        cache_salt: only prompts with the same salt share prefix cache blocks.
        request_id: unique.
        admit: takes a place among the answers in progress and returns how to give it back.
        on_prompt: called with the prompt as rendered, before it is asked.

    Raises:
        Overloaded: too many answers are in progress.
        ExpertError: the expert failed.
    """
    release = admit()
    try:
        if expert_id is None:
            text = prompt if isinstance(prompt, str) else question_of(prompt)
            expert_id = (await shared.router.estimate(text)).expert
        async with shared.pool.acquire(expert_id) as expert:
            rendered = (
                await rendering.tokenized(expert, prompt)
                if isinstance(prompt, str)
                else await rendering.rendered(expert, prompt)
            )
            if (salt := own_salt(cache_salt)) is not None:
                rendered = replace(rendered, cache_salt=salt)
            on_prompt(rendered)
            decode, now_s = DecodeClock(shared.rates[expert_id]), asyncio.get_running_loop().time
            tokens = rendered.num_tokens + (params.max_tokens or 0)
            with shared.gate.foreground(expert.capabilities.compute_group) as delivered:
                async with shared.places.place(expert_id, tokens):
                    stream = expert.generate(
                        rendered, params, priority=Priority.FOREGROUND, request_id=request_id
                    )
                    async with aclosing(stream):
                        async for chunk in stream:
                            tokens = len(chunk.token_ids)
                            decode.saw(tokens, now_s())
                            delivered(tokens)
                            yield chunk
    finally:
        release()
