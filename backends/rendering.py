"""Renders prompts without holding up the event loop: long ones in a thread of their own.

Owns that thread. A tokenizer is not asked by two threads at a time for long texts; short ones are
rendered at once, which is faster than any way to a thread.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .base import Expert, Message, TokenPrompt

LONG_CHARS = 16_384
T = TypeVar("T")


@functools.cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="livemind-render")


async def rendered(
    expert: Expert, messages: Sequence[Message], *, open_turn: bool = False
) -> TokenPrompt:
    """Return ``expert.render(messages)``; raises what that raises."""
    size = sum(len(message.content) for message in messages)
    return await beside(size, lambda: expert.render(messages, open_turn=open_turn))


async def tokenized(expert: Expert, text: str) -> TokenPrompt:
    """Return ``expert.tokenize(text)``; raises what that raises."""
    return await beside(len(text), lambda: expert.tokenize(text))


async def beside(size: int, work: Callable[[], T]) -> T:
    """Return what ``work`` on a text of so many characters returns."""
    if size < LONG_CHARS:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_thread(), work)
