"""The fake expert tells the truth about time, cache and counters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from livemind.backends.base import Chunk, Draft, GenerationParams, Message, Priority, TokenPrompt
from livemind.backends.drafts import DraftFeed
from livemind.backends.errors import ExpertOverloaded, ExpertUnavailable, PromptRejected
from livemind.backends.fake import FakeExpert

VirtualRun = Callable[[Coroutine[Any, Any, Any]], Any]
TEN_WORDS = "one two three four five six seven eight nine ten"


async def started(**settings: Any) -> FakeExpert:
    expert = FakeExpert(**settings)
    await expert.start()
    return expert


def user(expert: FakeExpert, text: str, *, open_turn: bool = False) -> TokenPrompt:
    return expert.render([Message("user", text)], open_turn=open_turn)


async def answer(
    expert: FakeExpert, prompt: TokenPrompt, draft: Draft | None = None, **params: Any
) -> tuple[list[Chunk], list[float]]:
    values = GenerationParams(**params)
    stream = expert.generate(
        prompt, values, priority=Priority.FOREGROUND, request_id="r", draft=draft
    )
    chunks, times = [], []
    async for chunk in stream:
        chunks.append(chunk)
        times.append(asyncio.get_running_loop().time())
    return chunks, times


def test_fake_generate_takes_the_scripted_time(virtual_run: VirtualRun) -> None:
    async def main() -> None:
        expert = await started(ttft_s=1.0, token_s=0.25, prefill_token_s=0.5)
        chunks, times = await answer(expert, user(expert, "one two"))
        assert [chunk.text for chunk in chunks] == ["ONE", " TWO"]
        assert times == [1.0 + 5 * 0.5, 1.25 + 5 * 0.5]

    virtual_run(main())


def test_fake_prefill_makes_full_blocks_of_the_final_prompt_cached(virtual_run: VirtualRun) -> None:
    async def main() -> None:
        expert = await started(block_tokens=4)
        opened = user(expert, f"{TEN_WORDS} elev", open_turn=True)
        final = user(expert, f"{TEN_WORDS} eleven")
        assert final.token_ids[: opened.num_tokens] == opened.token_ids
        first = await expert.prefill(opened, priority=Priority.SPECULATIVE)
        assert (first.cached, first.computed) == (0, 11)
        chunks, _ = await answer(expert, final)
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.cached_tokens == 8
        assert expert.prefilled_tokens == 11 + final.num_tokens - 8
        again = await expert.prefill(final, priority=Priority.SPECULATIVE)
        assert again.cached == (final.num_tokens - 1) // 4 * 4

    virtual_run(main())


def test_fake_limits_and_stops_are_obeyed(virtual_run: VirtualRun) -> None:
    async def main() -> None:
        expert = await started(max_model_len=14)
        prompt = user(expert, "a b c")
        chunks, _ = await answer(expert, prompt, max_tokens=2)
        assert ("".join(c.text for c in chunks), chunks[-1].finish_reason) == ("A B", "length")
        chunks, _ = await answer(expert, prompt, stop=("B",))
        assert ("".join(c.text for c in chunks), chunks[-1].finish_reason) == ("A ", "stop")
        with pytest.raises(PromptRejected, match="context limit is 14"):
            user(expert, TEN_WORDS + " " + TEN_WORDS)

    virtual_run(main())


def test_fake_closed_stream_counts_as_aborted(virtual_run: VirtualRun) -> None:
    async def main() -> None:
        expert = await started(token_s=1.0)
        stream = expert.generate(
            user(expert, "a b c"), GenerationParams(), priority=Priority.FOREGROUND, request_id="r"
        )
        await anext(stream)
        assert (expert.running, expert.aborted) == (1, 0)
        await stream.aclose()
        assert (expert.running, expert.aborted, expert.peak) == (0, 1, 1)

    virtual_run(main())


def test_fake_crash_and_refusal_happen_when_told(virtual_run: VirtualRun) -> None:
    async def main() -> None:
        expert = await started()
        prompt = user(expert, "a b c")
        expert.crash_after_tokens = 1
        with pytest.raises(ExpertUnavailable):
            await answer(expert, prompt)
        assert expert.generated_tokens == 1
        assert not (await expert.health()).ok
        await expert.start()
        assert (await expert.health()).ok
        expert.refuse = ExpertOverloaded("fake", "busy")
        with pytest.raises(ExpertOverloaded):
            await expert.prefill(prompt, priority=Priority.SPECULATIVE)

    virtual_run(main())


def test_fake_salts_share_no_cache(virtual_run: VirtualRun) -> None:
    async def main() -> None:
        expert = await started(block_tokens=2)
        prompt = user(expert, TEN_WORDS)
        await expert.prefill(prompt, priority=Priority.SPECULATIVE)
        salted = TokenPrompt(prompt.token_ids, prompt.num_tokens, cache_salt="s")
        assert expert.cached_tokens(prompt) > 0 == expert.cached_tokens(salted)

    virtual_run(main())


def test_fake_right_draft_takes_fewer_steps_and_the_same_answer(virtual_run: VirtualRun) -> None:
    async def main() -> None:
        expert = await started(token_s=1.0, drafts=True)
        prompt = user(expert, TEN_WORDS)
        plain, _ = await answer(expert, prompt)
        tokens = [token for chunk in plain for token in chunk.token_ids]
        began = asyncio.get_running_loop().time()
        drafted, times = await answer(expert, prompt, draft=tokens)
        assert "".join(c.text for c in drafted) == "".join(c.text for c in plain)
        assert times[-1] - began == len(drafted) - 1 < 4
        usage = drafted[-1].usage
        assert usage is not None
        assert (usage.accepted_draft_tokens, usage.rejected_draft_tokens) == (10, 0)
        wrong, times = await answer(expert, prompt, draft=[1] * 10)
        assert len(wrong) == 10
        assert wrong[-1].usage is not None
        assert wrong[-1].usage.rejected_draft_tokens == 10

    virtual_run(main())


def test_fake_draft_that_is_still_written_is_taken_as_it_comes(virtual_run: VirtualRun) -> None:
    async def main() -> None:
        expert = await started(token_s=1.0, drafts=True)
        prompt = user(expert, TEN_WORDS)
        plain, _ = await answer(expert, prompt)
        tokens = [token for chunk in plain for token in chunk.token_ids]
        feed = DraftFeed(tokens[:2])

        async def write() -> None:
            await asyncio.sleep(1.5)
            feed.push(tokens[2:])

        writer = asyncio.create_task(write())
        drafted, _ = await answer(expert, prompt, draft=feed)
        await writer
        assert [len(chunk.token_ids) for chunk in drafted] == [1, 2, 1, 6]

    virtual_run(main())


def test_fake_draft_is_ignored_by_an_expert_that_cannot_verify(virtual_run: VirtualRun) -> None:
    async def main() -> None:
        expert = await started()
        chunks, _ = await answer(expert, user(expert, "one two"), prediction="ONE TWO")
        assert len(chunks) == 2
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.accepted_draft_tokens is None

    virtual_run(main())
