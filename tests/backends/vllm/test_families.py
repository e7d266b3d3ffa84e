"""Published families, tiny and random, in a real engine: typed live, drafted, asked at the end.

Three of them in `make test`, all by `make test-families`.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from livemind.backends.base import GenerationParams, Message, Priority, TokenLogprob, TokenPrompt
from livemind.backends.machine.processor import this_processor
from livemind.backends.spec import ExpertSpec
from livemind.backends.vllm.expert import VllmExpert
from livemind.backends.zoo.families import FAMILIES, write_family

pytest.importorskip("vllm")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ALWAYS = ("smollm2", "gemma3", "granite-hybrid")  # one of many, sliding windows, state layers
KEEPS_NOTHING = {"deepseek-v2", "mamba2", "granite-hybrid"}
NO_DRAFTS = {*KEEPS_NOTHING, "qwen3-next"}
BFLOAT16 = {"qwen3-next", *(["deepseek-v2"] if this_processor().has("amx_tile") else [])}
LONG_BLOCKS = {"qwen3-next"}
# So near are logprobs (natural logarithm) where greedy answers may part.
TIE = {"float32": 0.002, "bfloat16": 0.1}
TEXTS, PIECES, ANSWER = 20, 7, 16
LEXICON = ("the", "a", "port", "machine", "second", "floor", "who", "owns", "which", "near", "red")
GREEDY = GenerationParams(max_tokens=ANSWER, temperature=0.0, ignore_eos=True, logprobs=1)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in ALWAYS else [pytest.mark.live]) for n in FAMILIES],
)
def test_family_typed_live_and_drafted_answers_as_asked_at_the_end(
    tmp_path: Path, name: str
) -> None:
    write_family(tmp_path, name)
    dtype = "bfloat16" if name in BFLOAT16 else "float32"
    spec = ExpertSpec(
        name, model_path=str(tmp_path), dtype=dtype, kv_cache_gib=0.25, max_model_len=2048
    )
    asyncio.run(_compare(VllmExpert(spec), name))


async def _compare(expert: VllmExpert, name: str) -> None:
    await expert.start()
    try:
        able = expert.capabilities
        assert able.open_turn_prefill is (name not in KEEPS_NOTHING), able.why_no_open_turn
        assert (able.why_no_open_turn is None) is able.open_turn_prefill
        assert able.drafts is (name not in NO_DRAFTS)
        assert able.self_test is not None
        for number in range(TEXTS):
            length = 700 if name in LONG_BLOCKS else 200
            await _compare_text(expert, random.Random(number), length)
    finally:
        await expert.stop()


async def _compare_text(expert: VllmExpert, rng: random.Random, length: int) -> None:
    able = expert.capabilities
    words = [f"{rng.choice(LEXICON)}{rng.choice(['', '', '', ',', '.'])}" for _ in range(length)]
    text = " ".join(words)
    final = expert.render([Message("user", text)], open_turn=False)
    if able.open_turn_prefill:
        for piece in range(1, PIECES + 1):
            typed = " ".join(words[: length * piece // PIECES])
            opened = expert.render([Message("user", typed)], open_turn=True)
            await expert.prefill(opened, priority=Priority.SPECULATIVE)
    live = await _answer(expert, final)
    whole = await _answer(expert, _salted(final))
    tie = TIE[str(able.dtype)]
    assert _same(live, whole, tie)
    reusable = (final.num_tokens - 1) // able.prefix_block_tokens * able.prefix_block_tokens
    assert live.cached >= 0.9 * reusable * able.open_turn_prefill
    assert (live.cached > 0) is able.open_turn_prefill
    if not able.drafts:
        return
    said = [told.token_id for told in whole.tokens]
    right = await _answer(expert, final, said)
    half = await _answer(expert, final, [*said[: ANSWER // 2], *reversed(said[: ANSWER // 2])])
    assert _same(right, whole, tie)
    assert _same(half, whole, tie)
    assert right.accepted >= 0.9 * (ANSWER - 1)


@dataclass(frozen=True)
class Answer:
    tokens: Sequence[TokenLogprob]
    cached: int
    accepted: int


async def _answer(
    expert: VllmExpert, prompt: TokenPrompt, draft: list[int] | None = None
) -> Answer:
    tokens: list[TokenLogprob] = []
    cached = accepted = 0
    request = expert.generate(
        prompt, GREEDY, priority=Priority.FOREGROUND, request_id=os.urandom(4).hex(), draft=draft
    )
    async for chunk in request:
        tokens += chunk.logprobs or ()
        if chunk.usage is not None:
            cached = chunk.usage.cached_tokens or 0
            accepted = chunk.usage.accepted_draft_tokens or 0
    assert len(tokens) == ANSWER
    return Answer(tokens, cached, accepted)


def _same(one: Answer, other: Answer, tie: float) -> bool:
    """Whether two answers agree, up to a tie: a step over several tokens rounds differently."""
    for a, b in zip(one.tokens, other.tokens, strict=True):
        if a.token_id != b.token_id:
            return abs(a.logprob - b.logprob) < tie
    return True


def _salted(prompt: TokenPrompt) -> TokenPrompt:
    return TokenPrompt(prompt.token_ids, prompt.num_tokens, cache_salt=os.urandom(4).hex())
