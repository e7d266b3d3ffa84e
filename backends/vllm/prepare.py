"""What a fresh engine computes once before it is asked, so that no answer has to wait for it.

On CPUs a step over a number of tokens that the engine has not seen yet costs about ten milliseconds
more, once: oneDNN prepares its matrix products by number of rows.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from uuid import uuid4

from ..base import Expert, GenerationParams, Priority, TokenPrompt
from .drafts import PROPOSAL_LENGTHS

LONGEST_TAIL = 48
LONGEST_S = 2.0


async def prefill_lengths(expert: Expert) -> None:
    """Prefill one prompt of every length up to ``LONGEST_TAIL`` tokens, behind everything else.

    That is what a turn usually leaves to compute at its commit: the last words, and what does not
    fill a block of the prefix cache. No prompt is begun after ``LONGEST_S``.

    Raises:
        ExpertError: the engine does not answer.
    """
    clock = asyncio.get_running_loop().time
    until_s = clock() + LONGEST_S
    limit = expert.capabilities.max_model_len
    longest = LONGEST_TAIL if limit is None else min(LONGEST_TAIL, limit - 1)
    for tokens in range(2, longest + 1):
        if clock() >= until_s:
            return
        # its own salt: a cached beginning would leave fewer tokens to compute
        prompt = TokenPrompt((0,) * tokens, tokens, cache_salt=f"prepare-{tokens}")
        await expert.prefill(prompt, priority=Priority.SPECULATIVE)


async def verify_lengths(expert: Expert, prompt: TokenPrompt) -> None:
    """Let the engine verify one proposal of each length, so that no answer is its first.

    Raises:
        ExpertError: the engine does not answer.
    """
    said: list[int] = []
    shortest = 0
    for length in (0, *PROPOSAL_LENGTHS):  # the first says what the draft has to begin with
        tokens = length + 2
        if len(prompt.token_ids) + tokens > (expert.capabilities.max_model_len or 0):
            return
        stream = expert.generate(
            prompt,
            GenerationParams(max_tokens=tokens, temperature=0.0, ignore_eos=True),
            priority=Priority.FOREGROUND,
            request_id=f"prepare-{uuid4().hex}",
            draft=said * (1 + shortest),
        )
        answer: list[int] = []
        async with aclosing(stream) as chunks:
            async for chunk in chunks:  # steps may arrive together, then there is one
                told_before = bool(answer)
                answer += chunk.token_ids
                if told_before:
                    break
        said, shortest = answer[:1], length + 1
