"""An expert's speed, as its steps tell it."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import accumulate, pairwise

import pytest

from livemind.backends.base import PrefillResult
from livemind.orchestrator.rates import (
    REMEMBERED_STEPS,
    DecodeClock,
    ExpertRates,
)

BLOCK = 32


def step(fixed_ms: float, token_ms: float) -> Callable[[int], PrefillResult]:
    return lambda tokens: PrefillResult(0, tokens, fixed_ms + token_ms * tokens)


def slices(
    rates: ExpertRates, taken: Callable[[int], PrefillResult], count: int, limit_ms: float = 80.0
) -> list[int]:
    """Return the sizes of slices as prefill takes them, each at most 256 tokens."""
    sizes = []
    for _ in range(count):
        tokens = min(256, rates.tokens_within(limit_ms, BLOCK))
        sizes.append(max(BLOCK, tokens // BLOCK * BLOCK))
        rates.saw_prefill(taken(sizes[-1]))
    return sizes


@pytest.mark.parametrize(("computed", "rate"), [(31, None), (32, 0.5)])
def test_prefill_rate_is_learned_from_enough_tokens(computed: int, rate: float | None) -> None:
    rates = ExpertRates()
    rates.saw_prefill(PrefillResult(0, computed, computed * 0.5))
    assert rates.prefill_ms_per_token == rate


def test_prefill_rate_counts_computed_tokens_not_cached_ones() -> None:
    rates = ExpertRates()
    rates.saw_prefill(PrefillResult(900, 100, 50.0))
    assert rates.prefill_ms_per_token == 0.5


@pytest.mark.parametrize(("decode_ms", "rate"), [(None, 1.0), (20.0, 0.8), (90.0, 0.5)])
def test_prefill_rate_leaves_out_what_any_step_costs(decode_ms: float | None, rate: float) -> None:
    rates = ExpertRates(decode_ms=decode_ms)
    rates.saw_prefill(PrefillResult(0, 100, 100.0))
    assert rates.prefill_ms_per_token == pytest.approx(rate)


@pytest.mark.parametrize(
    ("rates", "tokens"),
    [
        (ExpertRates(0.5, 20.0), 120),
        (ExpertRates(0.5), 160),
        (ExpertRates(0.5, 70.0), 141),
        (ExpertRates(0.5, 90.0), 140),
        (ExpertRates(0.5, 190.0), 0),
        (ExpertRates(None, 20.0), 64),
    ],
)
def test_tokens_of_a_step_follow_from_its_time(rates: ExpertRates, tokens: int) -> None:
    assert rates.tokens_within(80.0) == tokens


def test_decode_rate_moves_towards_newer_values() -> None:
    rates = ExpertRates()
    rates.saw_decode(10.0)
    assert rates.decode_ms == 10.0
    rates.saw_decode(20.0)
    assert rates.decode_ms == pytest.approx(13.0)


def test_decode_clock_learns_from_tokens_that_come_alone() -> None:
    rates = ExpertRates()
    clock = DecodeClock(rates)
    clock.saw(1, 10.0)
    assert rates.decode_ms is None
    clock.saw(1, 10.03)
    assert rates.decode_ms == pytest.approx(30.0)
    clock.saw(4, 10.04)
    assert rates.decode_ms == pytest.approx(30.0)


def test_steps_of_two_sizes_tell_what_each_step_costs_and_each_token() -> None:
    rates = ExpertRates(decode_ms=5.0)
    for tokens in (64, 96, 160):
        rates.saw_prefill(step(38.0, 0.42)(tokens))
    assert rates.prefill_ms_per_token == pytest.approx(0.42)
    assert rates.step_ms == pytest.approx(38.0)


def test_one_slow_step_bends_nothing() -> None:
    rates = ExpertRates()
    for tokens in (64, 96, 128, 96, 64, 128, 160):
        rates.saw_prefill(step(38.0, 0.42)(tokens))
    rates.saw_prefill(PrefillResult(0, 96, 400.0))
    assert rates.prefill_ms_per_token == pytest.approx(0.42, rel=0.1)
    assert rates.step_ms == pytest.approx(38.0, rel=0.1)


@pytest.mark.parametrize(
    ("fixed_ms", "token_ms", "size"),
    [
        (38.0, 0.42, 96),  # 100M parameters on two cores: 78 ms
        (20.0, 0.5, 96),  # 68 ms; one block more would be 84
        (5.0, 0.02, 256),  # the most that is allowed
        (60.0, 1.0, 64),  # half of the time is any step's: 124 ms rather than 92
        (100.0, 0.5, 96),  # twice the limit at most: 148 ms
        (300.0, 0.5, 32),  # that is not enough for what any step costs
        (2.0, 4.0, 32),  # nothing is less than a block
    ],
)
@pytest.mark.parametrize("decode_ms", [None, 5.0, 35.0])
def test_slices_grow_to_what_their_time_allows(
    fixed_ms: float, token_ms: float, size: int, decode_ms: float | None
) -> None:
    sizes = slices(ExpertRates(decode_ms=decode_ms), step(fixed_ms, token_ms), 40)
    settled = sizes[8:]
    assert size in settled
    assert all(abs(one - size) <= BLOCK for one in settled)
    assert all(b <= 2 * a for a, b in pairwise(accumulate(sizes, max)))


def test_slices_come_back_to_their_size_after_a_slow_minute() -> None:
    rates, rng = ExpertRates(decode_ms=35.0), random.Random(1)
    slices(rates, step(38.0, 0.42), 30)
    slices(rates, lambda n: PrefillResult(0, n, 300 * rng.uniform(0.5, 2) + n), 30)
    assert 96 in slices(rates, step(38.0, 0.42), 2 * REMEMBERED_STEPS)[-3:]
