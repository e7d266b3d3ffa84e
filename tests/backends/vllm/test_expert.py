"""The vLLM expert on a real engine with a tiny random model: one engine serves all tests here."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from livemind.backends.base import Chunk, GenerationParams, Priority, TokenPrompt
from livemind.backends.doctor import number_formats as formats
from livemind.backends.doctor.number_formats import fit_alone
from livemind.backends.drafts import DraftFeed
from livemind.backends.errors import ExpertUnavailable, PromptRejected
from livemind.backends.vllm.expert import VllmExpert

from ..conftest import Run
from .asking import (
    ENDLESS,
    GREEDY,
    LONG_TEXT,
    NARROW,
    collect,
    numbers,
    scheduled_requests,
    spec_of,
    token_ids,
    until,
    user,
)

pytest.importorskip("vllm")


pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def expert(run: Run, tiny_model: Path) -> Iterator[VllmExpert]:
    made = VllmExpert(spec_of(tiny_model, max_model_len=1800))
    run(made.start())
    yield made
    run(made.stop())


def test_engine_computes_in_the_format_that_was_chosen_for_this_processor(
    run: Run, expert: VllmExpert, tiny_model: Path
) -> None:
    chosen = fit_alone(spec_of(tiny_model, max_model_len=1800)).spec.dtype
    assert chosen != "auto"
    assert expert.capabilities.dtype == expert.capabilities.kv_cache_dtype == chosen


def test_start_8_bit_kv_cache_that_is_not_to_be_had_starts_with_the_models_own(
    run: Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(formats, "this_processor", lambda: NARROW)
    spec = spec_of(tiny_model, max_model_len=256, kv_cache_dtype="fp8", dtype="float32")

    async def ask() -> list[Chunk]:
        expert = VllmExpert(spec)
        await expert.start()
        try:
            assert expert.capabilities.kv_cache_dtype == "float32"
            return await collect(expert, expert.render(user("Hello"), open_turn=False))
        finally:
            await expert.stop()

    assert run(ask())[-1].finish_reason == "length"
    assert "kv_cache_dtype fp8 becomes the model's own format" in caplog.text


def test_start_8_bit_kv_cache_without_fallback_is_refused_by_name(
    run: Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "this_processor", lambda: NARROW)
    spec = spec_of(tiny_model, kv_cache_dtype="fp8", kv_cache_fallback=False)
    with pytest.raises(ExpertUnavailable, match="kv_cache_dtype fp8: vLLM has an 8-bit KV cache"):
        run(VllmExpert(spec).start())


def test_generate_deltas_joined_are_the_text_of_the_tokens(run: Run, expert: VllmExpert) -> None:
    prompt = expert.render(user("Hello there"), open_turn=False)
    chunks = run(collect(expert, prompt))
    ids = token_ids(chunks)
    text = expert._engine.get_tokenizer().decode(ids, skip_special_tokens=True)
    assert "".join(chunk.text for chunk in chunks) == text
    assert len(chunks) > 5
    assert len(ids) == 24
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].finish_reason == "length"
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (prompt.num_tokens, 24)


def test_generate_greedy_twice_gives_the_same_tokens(run: Run, expert: VllmExpert) -> None:
    prompt = expert.render(user("Same again"), open_turn=False)
    first, second = run(collect(expert, prompt)), run(collect(expert, prompt))
    assert token_ids(first) == token_ids(second)


def test_prefill_open_turn_makes_the_final_prompt_cached(run: Run, expert: VllmExpert) -> None:
    opened = expert.render(user(f"open {LONG_TEXT} unfin"), open_turn=True)
    result = run(expert.prefill(opened, priority=Priority.SPECULATIVE))
    assert (result.cached, result.computed) == (0, opened.num_tokens)
    final = expert.render(user(f"open {LONG_TEXT} unfinished"), open_turn=False)
    usage = run(collect(expert, final))[-1].usage
    block = expert.capabilities.prefix_block_tokens
    assert usage is not None
    assert usage.cached_tokens == opened.num_tokens // block * block > 0


def test_prefill_other_salt_shares_no_cache(run: Run, expert: VllmExpert) -> None:
    opened = expert.render(user(f"salted {LONG_TEXT} x"), open_turn=True)
    run(expert.prefill(opened, priority=Priority.SPECULATIVE))
    salted = TokenPrompt(opened.token_ids, opened.num_tokens, open_turn=True, cache_salt="other")
    assert run(expert.prefill(salted, priority=Priority.SPECULATIVE)).cached == 0
    assert run(expert.prefill(opened, priority=Priority.SPECULATIVE)).cached > 0


def test_generate_logprobs_name_the_chosen_token_and_the_best_others(
    run: Run, expert: VllmExpert
) -> None:
    prompt = expert.render(user("Count"), open_turn=False)
    params = GenerationParams(max_tokens=6, temperature=0.0, ignore_eos=True, logprobs=3)
    entries = [e for chunk in run(collect(expert, prompt, params)) for e in chunk.logprobs or ()]
    assert len(entries) == 6
    assert any(entry.token for entry in entries)  # a part of a character has no text
    for entry in entries:
        assert len(entry.top) == 3
        assert entry.top[0] == (entry.token, entry.token_id, entry.logprob)
        assert entry.logprob <= 0
        assert [t[2] for t in entry.top] == sorted((t[2] for t in entry.top), reverse=True)
    chosen_only = GenerationParams(max_tokens=2, temperature=0.0, ignore_eos=True, logprobs=0)
    plain = [e for c in run(collect(expert, prompt, chosen_only)) for e in c.logprobs or ()]
    assert [(e.token_id, e.top) for e in plain] == [(e.token_id, ()) for e in entries[:2]]
    assert math.isclose(plain[0].logprob, entries[0].logprob, abs_tol=1e-3)
    assert all(c.logprobs is None for c in run(collect(expert, prompt)))


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({"logit_bias": ((7, 100.0),)}, True),
        ({"temperature": 1.5, "seed": 1}, True),
        ({"temperature": 1.5, "seed": 1, "top_k": 1}, False),
        ({"temperature": 1.5, "seed": 1, "top_p": 0.01}, False),
        ({"temperature": 1.5, "seed": 1, "min_p": 1.0}, False),
        ({"repetition_penalty": 2.0}, True),
        ({"presence_penalty": 2.0}, True),
        ({"frequency_penalty": 2.0}, True),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_generate_each_sampling_parameter_reaches_the_engine(
    run: Run, expert: VllmExpert, changed: dict[str, Any], differs: bool
) -> None:
    prompt = expert.render(user("Sample"), open_turn=False)
    settings = {"max_tokens": 24, "temperature": 0.0, "ignore_eos": True, **changed}
    sampled = token_ids(run(collect(expert, prompt, GenerationParams(**settings))))
    greedy = token_ids(run(collect(expert, prompt)))
    if differs:
        assert sampled != greedy
    else:  # in bfloat16 the best two tokens may be equally likely, in this text the sixth
        compared = 24 if expert.capabilities.dtype == "float32" else 4
        assert sampled[:compared] == greedy[:compared]


def test_generate_stop_string_ends_before_it(run: Run, expert: VllmExpert) -> None:
    prompt = expert.render(user("Stop"), open_turn=False)
    text = "".join(chunk.text for chunk in run(collect(expert, prompt)))
    stop = text[len(text) // 2 :][:3]
    params = GenerationParams(max_tokens=24, temperature=0.0, ignore_eos=True, stop=(stop,))
    chunks = run(collect(expert, prompt, params))
    assert "".join(chunk.text for chunk in chunks) == text.partition(stop)[0]
    assert chunks[-1].finish_reason == "stop"


def test_generate_no_max_tokens_takes_the_experts_default(run: Run, expert: VllmExpert) -> None:
    prompt = expert.render(user("Default"), open_turn=False)
    params = GenerationParams(temperature=0.0, ignore_eos=True)
    usage = run(collect(expert, prompt, params))[-1].usage
    assert usage is not None
    assert usage.completion_tokens == 512
    usage = run(collect(expert, numbers(1700), params))[-1].usage
    assert usage is not None
    assert usage.completion_tokens == 100


@pytest.mark.parametrize(
    ("params", "param"),
    [
        (GenerationParams(max_tokens=1799), "max_tokens"),
        (GenerationParams(max_tokens=0), "max_tokens"),
        (GenerationParams(temperature=-1.0), "temperature"),
        (GenerationParams(top_p=1.5), "top_p"),
        (GenerationParams(logprobs=1000), "logprobs"),
        (GenerationParams(logit_bias=((10**6, 1.0),)), "logit_bias"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_generate_impossible_parameter_is_refused_by_name(
    run: Run, expert: VllmExpert, params: GenerationParams, param: str
) -> None:
    prompt = expert.render(user("Refuse"), open_turn=False)
    with pytest.raises(PromptRejected) as caught:
        run(collect(expert, prompt, params))
    assert caught.value.param == param
    assert param in caught.value.message or str(1800) in caught.value.message
    assert run(expert.health()).ok


def drafts_of(right: list[int]) -> dict[str, list[int]]:
    wrong = [(token + 7) % 590 + 6 for token in right]
    return {
        "right": right,
        "wrong": wrong,
        "wrong in the middle": right[:9] + wrong[9:10] + right[10:],
        "wrong to the end": right[:9] + wrong[9:],
        "right and more": right + right,
        "no tokens of this model": [*right[:4], -5, 10**6, 2**40],
    }


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"presence_penalty": 1.0},
        {"repetition_penalty": 1.5, "frequency_penalty": 0.5},
        {"logprobs": 2},
        {"logit_bias": ((7, 100.0),)},
        {"temperature": 1.5, "seed": 1, "min_p": 1.0},
    ],
    ids="+".join,
)
def test_generate_greedy_draft_changes_no_token(
    run: Run, expert: VllmExpert, changed: dict[str, Any]
) -> None:
    verifiable = not {"logit_bias", "min_p"} & set(changed)
    params = GenerationParams(
        **{"max_tokens": 24, "temperature": 0.0, "ignore_eos": True} | changed
    )
    prompt = expert.render(user("Draft"), open_turn=False)
    plain = run(collect(expert, prompt, params))
    right = token_ids(plain)
    for name, draft in drafts_of(right).items():
        chunks = run(collect(expert, prompt, params, draft))
        assert token_ids(chunks) == right, name
        assert "".join(c.text for c in chunks) == "".join(c.text for c in plain)
        assert chunks[-1].usage is not None
        counted = (
            chunks[-1].usage.accepted_draft_tokens,
            chunks[-1].usage.rejected_draft_tokens,
        )
        if not verifiable:
            assert counted == (None, None)
        elif name == "right":
            assert counted == (24, 0)
            assert len(chunks) < 10
            assert all(
                len(c.logprobs or ()) == len(c.token_ids) for c in chunks if "logprobs" in changed
            )
        elif name == "wrong":
            assert counted == (0, 24)


def test_generate_prediction_is_tokenized_and_verified(
    run: Run, expert: VllmExpert, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = expert.render(user("Predict"), open_turn=False)
    right = token_ids(run(collect(expert, prompt)))
    assert expert._renderer is not None
    tokenized = expert._renderer.continuation("over the lazy dog")
    assert expert._engine.get_tokenizer().decode(tokenized) == "over the lazy dog"
    # A random model's tokens are no text that could be predicted.
    monkeypatch.setattr(expert._renderer, "continuation", {"as it is": right}.__getitem__)
    predicted = replace(GREEDY, prediction="as it is")
    assert predicted == GREEDY
    chunks = run(collect(expert, prompt, predicted))
    assert token_ids(chunks) == right
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.accepted_draft_tokens == 24


def test_generate_draft_pushed_while_decoding_is_used(run: Run, expert: VllmExpert) -> None:
    prompt = expert.render(user("Push"), open_turn=False)
    params = replace(GREEDY, max_tokens=200)
    right = token_ids(run(collect(expert, prompt, params)))

    async def main() -> tuple[list[int], list[int]]:
        feed = DraftFeed(right[:2])
        stream = expert.generate(
            prompt, params, priority=Priority.FOREGROUND, request_id="push", draft=feed
        )
        tokens: list[int] = []
        sizes = []
        async for chunk in stream:
            tokens += chunk.token_ids
            sizes.append(len(chunk.token_ids))
            if len(sizes) == 3:
                feed.push(right[2:])
        return tokens, sizes

    tokens, sizes = run(main())
    assert tokens == right
    assert len(sizes) < 150
    assert max(sizes) > 4


def test_generate_prompt_cached_to_its_last_token_obeys_a_logit_bias(
    run: Run, expert: VllmExpert
) -> None:
    prompt = numbers(1 + 3 * expert.capabilities.prefix_block_tokens)
    params = replace(GREEDY, max_tokens=4, logit_bias=((7, 100.0),))
    for _ in range(2):  # nothing is guessed for a prompt of which one token is left to compute
        chunks = run(collect(expert, prompt, params))
        assert token_ids(chunks) == [7] * 4
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.cached_tokens == prompt.num_tokens - 1


def test_generate_near_the_context_limit_a_draft_changes_nothing(
    run: Run, expert: VllmExpert
) -> None:
    prompt, params = numbers(1790), replace(GREEDY, max_tokens=None)
    right = token_ids(run(collect(expert, prompt, params)))
    assert len(right) == 10
    assert token_ids(run(collect(expert, prompt, params, right + right))) == right
    biased = replace(params, logit_bias=((7, 100.0),))
    assert token_ids(run(collect(expert, prompt, biased))) == [7] * 10


@pytest.mark.parametrize("draft", ["none", "right", "wrong"])
def test_generate_sampled_with_a_draft_follows_the_same_distribution(
    run: Run, expert: VllmExpert, draft: str
) -> None:
    """Chi-square of the second token, which is verified, against the engine's own probabilities.

    Requests of two temperatures and limits share their batches: each must get its own.
    """
    prompt = numbers(64)
    first = token_ids(run(collect(expert, prompt, replace(GREEDY, max_tokens=1))))
    follow = TokenPrompt((*prompt.token_ids, *first), 65)
    logprobs = run(collect(expert, follow, replace(GREEDY, max_tokens=1, logprobs=4)))[0].logprobs
    assert logprobs is not None
    tops = [token_id for _, token_id, _ in logprobs[0].top]
    drafted = {"none": None, "right": [first[0], tops[0]], "wrong": [first[0], tops[1]]}[draft]
    settings = [(0.5, 4), (2.0, 3)]
    seen = {setting: [0] * 4 for setting in settings}

    async def sample(seed: int) -> None:
        temperature, top_k = setting = settings[seed % 2]
        params = GenerationParams(  # a third token: for a last one nothing is proposed
            max_tokens=3, temperature=temperature, top_k=top_k, ignore_eos=True, seed=seed
        )
        tokens = token_ids(await collect(expert, prompt, params, drafted))
        if tokens[0] == first[0]:
            seen[setting][tops.index(tokens[1])] += 1

    async def main() -> None:
        await asyncio.gather(*map(sample, range(1600)))

    run(main())
    for temperature, top_k in settings:
        counts = np.array(seen[temperature, top_k])
        weights = np.exp([logprob / temperature for _, _, logprob in logprobs[0].top[:top_k]])
        expected = weights / weights.sum() * counts.sum()
        assert counts.sum() > 200
        assert not counts[top_k:].any()
        statistic = float(((counts[:top_k] - expected) ** 2 / expected).sum())
        assert statistic < 16.3, (temperature, counts, expected)  # p < 0.001; fixed seeds


def test_render_prompt_over_the_engines_limit_is_refused(expert: VllmExpert) -> None:
    assert expert.capabilities.max_model_len == 1800
    with pytest.raises(PromptRejected) as caught:
        expert.render(user("word " * 3000), open_turn=False)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("how", ["close", "cancel"])
def test_generate_given_up_frees_the_engine(run: Run, expert: VllmExpert, how: str) -> None:
    prompt = expert.render(user("Endless"), open_turn=False)

    async def begin() -> None:
        stream = expert.generate(
            prompt, ENDLESS, priority=Priority.FOREGROUND, request_id=f"give-up-{how}"
        )
        async with aclosing(stream):
            async for _ in stream:
                if how == "close":
                    return
                await asyncio.Event().wait()

    async def main() -> int:
        task = asyncio.create_task(begin())
        if how == "cancel":
            await until(lambda: expert._engine.get_num_unfinished_requests() > 0)
            task.cancel()
        await asyncio.wait([task])
        assert expert._engine.get_num_unfinished_requests() == 0
        return await scheduled_requests(expert)

    assert run(main()) == 0


def test_prefill_cancelled_frees_the_engine(run: Run, expert: VllmExpert) -> None:
    prompt = numbers(1700)

    async def main() -> int:
        task = asyncio.create_task(expert.prefill(prompt, priority=Priority.SPECULATIVE))
        await until(lambda: expert._engine.get_num_unfinished_requests() > 0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return await scheduled_requests(expert)

    assert run(main()) == 0


def test_generate_open_turn_is_refused(run: Run, expert: VllmExpert) -> None:
    opened = expert.render(user("half a sent"), open_turn=True)
    with pytest.raises(PromptRejected, match="only be prefilled"):
        run(collect(expert, opened))
