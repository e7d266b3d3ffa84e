from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from livemind.backends.base import Chunk, GenerationParams, PrefillResult, Priority, TokenPrompt
from livemind.backends.fake import FakeExpert
from livemind.backends.vllm import prepare
from livemind.backends.vllm.prepare import prefill_lengths, verify_lengths


class Recorder(FakeExpert):
    """Keeps the prompts that it is to prefill, and how urgently."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.asked: list[tuple[TokenPrompt, Priority]] = []

    async def prefill(self, prompt: TokenPrompt, *, priority: Priority) -> PrefillResult:
        self.asked.append((prompt, priority))
        return await super().prefill(prompt, priority=priority)


@pytest.mark.parametrize(("max_model_len", "longest"), [(None, 48), (8, 7)])
def test_prefill_lengths_computes_each_length_once_behind_everything_else(
    virtual_run: Any, max_model_len: int | None, longest: int
) -> None:
    async def main() -> Recorder:
        expert = Recorder(max_model_len=max_model_len)
        await expert.start()
        await prefill_lengths(expert)
        await expert.stop()
        return expert

    asked = virtual_run(main()).asked
    assert [len(prompt.token_ids) for prompt, _ in asked] == list(range(2, longest + 1))
    assert len({prompt.cache_salt for prompt, _ in asked}) == len(asked)
    assert {priority for _, priority in asked} == {Priority.SPECULATIVE}


def test_prefill_lengths_of_a_slow_engine_ends_in_time(virtual_run: Any) -> None:
    async def main() -> Recorder:
        expert = Recorder(prefill_token_s=0.1)
        await expert.start()
        await prefill_lengths(expert)
        await expert.stop()
        return expert

    asked = virtual_run(main()).asked
    before_the_last = sum(0.1 * len(prompt.token_ids) for prompt, _ in asked[:-1])
    assert 1 < len(asked) < 20
    assert before_the_last < prepare.LONGEST_S


class Drafted(FakeExpert):
    """Keeps the lengths of the drafts that it is to verify; answers in so many chunks."""

    def __init__(self, chunks: int) -> None:
        super().__init__(max_model_len=64)
        self.lengths: list[int] = []
        self._chunks = chunks

    async def generate(
        self, prompt: TokenPrompt, params: GenerationParams, *, draft: Any = None, **more: Any
    ) -> AsyncGenerator[Chunk, None]:
        self.lengths.append(len(draft))
        tokens = (7,) * (params.max_tokens or 0)
        per_chunk = -(-len(tokens) // self._chunks)
        for start in range(0, len(tokens), per_chunk):
            yield Chunk("", tokens[start : start + per_chunk])


@pytest.mark.parametrize("chunks", [1, 2, 99])
def test_verify_lengths_proposes_each_length_however_the_steps_arrive(
    virtual_run: Any, chunks: int
) -> None:
    async def main() -> Drafted:
        expert = Drafted(chunks)
        await expert.start()
        await verify_lengths(expert, TokenPrompt((0,), 1))
        await expert.stop()
        return expert

    assert virtual_run(main()).lengths == [0, 2, 5, 9]
