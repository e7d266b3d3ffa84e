"""One expert answers one prompt; nothing is prepared, retrieved or settled: there is no session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing

from msgspec.structs import replace

from ..backends import rendering
from ..backends.base import Chunk, Expert, GenerationParams, Message, Priority, TokenPrompt
from .consensus.task import question_of, tokens_of
from .fairness.asker import own_salt
from .rates import DecodeClock
from .turn.shared import Shared

Prompt = str | Sequence[int] | Sequence[Message]


async def answer_alone(
    shared: Shared,
    prompt: Prompt,
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
        prompt: text or tokens to be continued, or a conversation to be answered.
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
            expert_id = (await shared.router.estimate(_asked(prompt))).expert
        async with shared.pool.acquire(expert_id) as expert:
            rendered = await _rendered(expert, prompt)
            if (salt := own_salt(cache_salt)) is not None:
                rendered = replace(rendered, cache_salt=salt)
            on_prompt(rendered)
            decode, now_s = DecodeClock(shared.rates[expert_id]), asyncio.get_running_loop().time
            group, gate = expert.capabilities.compute_group, shared.gate
            place = shared.places.place(expert_id, rendered.num_tokens, params.max_tokens or 0)
            async with AsyncExitStack() as stack:
                delivered = stack.enter_context(gate.foreground(group))
                with gate.kept_out(group):
                    used = await stack.enter_async_context(place)
                stream = expert.generate(
                    rendered, params, priority=Priority.FOREGROUND, request_id=request_id
                )
                async with aclosing(stream):
                    async for chunk in stream:
                        tokens = len(chunk.token_ids)
                        decode.saw(tokens, now_s())
                        delivered(tokens)
                        used(tokens_of(chunk))
                        yield chunk
    finally:
        release()


def _asked(prompt: Prompt) -> str:
    """Return what the route depends on; tokens tell nothing before an expert has them."""
    if isinstance(prompt, str):
        return prompt
    messages = [part for part in prompt if isinstance(part, Message)]
    return question_of(messages)


async def _rendered(expert: Expert, prompt: Prompt) -> TokenPrompt:
    if isinstance(prompt, str):
        return await rendering.tokenized(expert, prompt)
    messages = [part for part in prompt if isinstance(part, Message)]
    if messages:
        return await rendering.rendered(expert, messages)
    return expert.tokenize(_tokens(prompt))


def _tokens(prompt: Sequence[object]) -> list[int]:
    return [token for token in prompt if isinstance(token, int)]
