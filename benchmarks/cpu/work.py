"""What every engine is asked, and the three figures of one turn."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Self

from ..figures.answer import Json
from .engines import Engine

PROMPT_TOKENS, SHORT_PROMPT_TOKENS, ANSWER_TOKENS, STREAMS = 1509, 32, 64, 4
FIGURES = ("prefill", "decode", "streams")
_LEAST_TOKEN, _MOST_TOKEN = 1_000, 30_000


@dataclass(slots=True)
class Measured:
    """What one arm gave: tokens per second by figure, one number per round."""

    told: Json
    weight_bytes: int
    rates: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in FIGURES})


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of one round, token ids without meaning: the same for every arm, new to it."""

    long: list[int]
    short: list[int]
    at_once: list[list[int]]

    @classmethod
    def draw(cls, seed: int) -> Self:
        """Return those of a seed."""
        draw = random.Random(seed)

        def tokens(count: int) -> list[int]:
            return [draw.randrange(_LEAST_TOKEN, _MOST_TOKEN) for _ in range(count)]

        several = [tokens(SHORT_PROMPT_TOKENS) for _ in range(STREAMS)]
        return cls(tokens(PROMPT_TOKENS), tokens(SHORT_PROMPT_TOKENS), several)


async def turn(engine: Engine, prompts: Prompts) -> dict[str, float]:
    """Return the figures of one turn of one arm, tokens per second."""
    prefill = PROMPT_TOKENS / (await engine.answer(prompts.long, 1)).first_s
    decode = 1.0 / (await engine.answer(prompts.short, ANSWER_TOKENS)).token_s
    began = time.perf_counter()
    await asyncio.gather(*(engine.answer(one, ANSWER_TOKENS) for one in prompts.at_once))
    streams = STREAMS * ANSWER_TOKENS / (time.perf_counter() - began)
    return dict(zip(FIGURES, (prefill, decode, streams), strict=True))
