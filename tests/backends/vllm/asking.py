"""What tests ask an engine, and what they read of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from livemind.backends.base import Chunk, Draft, GenerationParams, Message, Priority, TokenPrompt
from livemind.backends.machine.processor import Processor
from livemind.backends.spec import ExpertSpec
from livemind.backends.vllm.expert import VllmExpert

GREEDY = GenerationParams(max_tokens=24, temperature=0.0, ignore_eos=True)
ENDLESS = GenerationParams(max_tokens=1500, temperature=0.0, ignore_eos=True)
NARROW = Processor("", "x86_64", ("avx2", "fma", "f16c"))
LONG_TEXT = " ".join(f"word{number}" for number in range(60))


def spec_of(folder: Path, **settings: Any) -> ExpertSpec:
    return ExpertSpec("tiny", model_path=str(folder), kv_cache_gib=0.1, **settings)


def user(text: str) -> list[Message]:
    return [Message("user", text)]


def token_ids(chunks: list[Chunk]) -> list[int]:
    return [token for chunk in chunks for token in chunk.token_ids]


def numbers(length: int) -> TokenPrompt:
    return TokenPrompt(tuple(number % 590 + 6 for number in range(length)), length)


async def collect(
    expert: VllmExpert,
    prompt: TokenPrompt,
    params: GenerationParams = GREEDY,
    draft: Draft | None = None,
) -> list[Chunk]:
    stream = expert.generate(
        prompt, params, priority=Priority.FOREGROUND, request_id=os.urandom(4).hex(), draft=draft
    )
    return [chunk async for chunk in stream]


async def until(condition: Callable[[], bool]) -> None:
    """Poll what offers no event; the test's own timeout is the limit."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def scheduled_requests(expert: VllmExpert) -> int:
    """Return 0 once the EngineCore has no request: it refuses to reset its cache with any."""
    for _ in range(50):
        if await expert._engine.reset_prefix_cache():
            return 0
        await asyncio.sleep(0.02)
    return 1
