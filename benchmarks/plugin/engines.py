"""Two engines of one model, with and without the kernels, asked in turn."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from ...backends.base import Chunk, GenerationParams, Message, Priority, TokenLogprob, TokenPrompt
from ...backends.spec import ExpertSpec
from ...backends.vllm.expert import VllmExpert
from ..bench import BenchmarkFailed

ARMS = ("without", "with")
PROMPT_TOKENS = 32
MOST_AT_ONCE = 16
_LOGGED = "LiveMind kernels"


@dataclass(slots=True)
class Answer:
    """What one request gave."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def add(self, chunk: Chunk) -> None:
        """Append a part of the answer."""
        self.tokens += chunk.token_ids
        self.logprobs += chunk.logprobs or ()


def filler(number: int) -> TokenPrompt:
    """Return a prompt of tokens without meaning, another one for every number."""
    first = 64 * (number + 1)
    return TokenPrompt(tuple(range(first, first + PROMPT_TOKENS)), PROMPT_TOKENS)


class Engines:
    """Both engines of a model, started on entering and stopped on leaving.

    They run at the same time and are asked one after the other; an engine without requests
    computes nothing. Each is an expert as LiveMind makes it.

    Args:
        model: folder of the model.
        logs: folder for the engines' logs, which say what is active.
        operators: ``neon_optimizations`` of the one ``with``; empty: its defaults.
        dtype: of both, named so that a figure means the same on every processor.
    """

    def __init__(
        self,
        model: Path,
        logs: Path,
        operators: Mapping[str, object] | None = None,
        dtype: str = "bfloat16",
    ) -> None:
        self._logs = {arm: logs / f"{model.name}-{arm}.log" for arm in ARMS}
        self._experts = {
            arm: VllmExpert(
                ExpertSpec(
                    expert_id=arm,
                    model_path=str(model),
                    verify_drafts=False,
                    dtype=dtype,
                    enable_neon=arm == "with",
                    neon_optimizations=(operators or {}) if arm == "with" else {},
                    engine_log=str(log),
                    max_model_len=1024,
                    max_num_seqs=MOST_AT_ONCE,
                )
            )
            for arm, log in self._logs.items()
        }
        self._numbers = itertools.count()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with self._stack:
            for expert in self._experts.values():
                self._stack.push_async_callback(expert.stop)
                await expert.start()
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def active(self) -> dict[str, str]:
        """Return what each engine's own log says of kernels.

        Raises:
            BenchmarkFailed: the two arms are not what they should be.
        """
        found = {}
        for arm, log in self._logs.items():
            lines = log.read_text(encoding="utf-8").splitlines()
            said = [line.partition(_LOGGED)[2].strip(": ") for line in lines if _LOGGED in line]
            found[arm] = said[-1] if said else "nothing"
        if found["without"] != "off" or "sampling" not in found["with"]:
            raise BenchmarkFailed(f"the engines do not differ as they should: {found}")
        return found

    def render(self, messages: Sequence[Message]) -> TokenPrompt:
        """Return a conversation as the model takes it."""
        return self._experts["with"].render(messages, open_turn=False)

    async def answer(self, arm: str, params: GenerationParams, prompt: TokenPrompt) -> Answer:
        """Return one answer."""
        answer = Answer()
        request = f"{arm}-{next(self._numbers)}"
        stream = self._experts[arm].generate(
            prompt, params, priority=Priority.FOREGROUND, request_id=request
        )
        async for chunk in stream:
            answer.add(chunk)
        return answer

    async def together(
        self, arm: str, params: Sequence[GenerationParams]
    ) -> tuple[list[Answer], float]:
        """Return the answers of requests that run at the same time, and how long all took, s."""
        began = time.perf_counter()
        asked = (self.answer(arm, one, filler(number)) for number, one in enumerate(params))
        answers = await asyncio.gather(*asked)
        return answers, time.perf_counter() - began
