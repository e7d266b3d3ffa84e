"""The self-test of an engine, and what its outcome lets speculation do."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from livemind.backends.base import (
    Capabilities,
    Chunk,
    PrefillResult,
    TokenLogprob,
    TokenPrompt,
    Usage,
)
from livemind.backends.vllm.learned import after_self_test
from livemind.backends.vllm.self_test import SelfTest, self_test

BLOCK = 32


class Engine:
    """Keeps prefixes in blocks as an engine does: all, ends alone, or none; counts up as answer.

    ``wrong_cached`` and ``wrong_drafted`` are by how much the logprob of another answer differs
    where a prefix was found, and where a draft was given; 0 = the answer is the same.
    """

    def __init__(
        self,
        keeps: str = "all",
        *,
        accepts: bool = True,
        limit: int = 2000,
        wrong_cached: float = 0.0,
        wrong_drafted: float = 0.0,
    ) -> None:
        self.capabilities = Capabilities(
            drafts=True, max_model_len=limit, prefix_block_tokens=BLOCK
        )
        self._keeps = keeps
        self._accepts = accepts
        self._wrong = wrong_cached, wrong_drafted
        self._cache: set[tuple[Any, tuple[int, ...]]] = set()

    async def prefill(self, prompt: TokenPrompt, *, priority: int) -> PrefillResult:
        ids, full = prompt.token_ids, (prompt.num_tokens - 1) // BLOCK * BLOCK
        ends = range(0, full + 1, BLOCK)
        cached = max((e for e in ends if (prompt.cache_salt, ids[:e]) in self._cache), default=0)
        kept = {"all": ends, "ends": [full], "none": []}[self._keeps]
        self._cache |= {(prompt.cache_salt, ids[:end]) for end in kept}
        return PrefillResult(cached, len(ids) - cached, 1.0)

    async def generate(
        self, prompt: TokenPrompt, params: Any, *, draft: Any = None, **_: Any
    ) -> AsyncGenerator[Chunk, None]:
        cached = (await self.prefill(prompt, priority=0)).cached
        said = list(range(params.max_tokens))
        accepted = len(said) - 1 if draft == said and self._accepts else 0
        off = self._wrong[0] * bool(cached) + self._wrong[1] * (draft is not None)
        told = [TokenLogprob("", token + bool(off), -1.0 - off) for token in said]
        usage = Usage(1, 6, cached, accepted, 0)
        yield Chunk("", tuple(said), tuple(told), finish_reason="length", usage=usage)


async def asked(engine: Any) -> SelfTest:
    found = await self_test(engine, range(500))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("keeps", "again", "shared"), [("all", 64, 32), ("ends", 64, 0), ("none", 0, 0)]
)
async def test_self_test_tells_what_an_engine_keeps_of_a_prompt(
    keeps: str, again: int, shared: int
) -> None:
    engine: Any = Engine(keeps)
    found = await asked(engine)
    assert (found.asked, found.again, found.half, found.shared) == (65, again, 32, shared)
    assert (found.drafted, found.accepted) == (6, 5)
    able = after_self_test(engine.capabilities, found, "e")
    assert able.open_turn_prefill is (keeps != "none")
    assert (able.why_no_open_turn is None) is (keeps != "none")
    assert able.drafts
    assert f"{again} cached; 32 shared: {shared} cached" in str(able.self_test)


async def test_self_test_refused_right_draft_ends_drafts_alone() -> None:
    engine: Any = Engine(accepts=False)
    able = after_self_test(engine.capabilities, await asked(engine), "e")
    assert (able.drafts, able.open_turn_prefill) == (False, True)


@pytest.mark.parametrize(("off", "trusted"), [(0.01, True), (0.5, False)])
async def test_self_test_another_answer_ends_what_changed_it_unless_it_is_a_tie(
    off: float, trusted: bool
) -> None:
    engine: Any = Engine(wrong_cached=off)
    able = after_self_test(engine.capabilities, await asked(engine), "e")
    assert (able.open_turn_prefill, "ANOTHER" not in str(able.self_test)) == (trusted, trusted)
    engine = Engine(wrong_drafted=off)
    able = after_self_test(engine.capabilities, await asked(engine), "e")
    assert (able.drafts, able.open_turn_prefill) == (trusted, True)


async def test_self_test_blocks_longer_than_the_context_are_not_tried() -> None:
    engine: Any = Engine(limit=30)
    assert await self_test(engine, range(500)) is None
