"""When a circuit breaker lets a request through."""

from __future__ import annotations

import pytest

from livemind.rag.client.breaker import CircuitBreaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(clock: Clock) -> CircuitBreaker:
    breaker = CircuitBreaker(2, 5.0, clock)
    breaker.failed()
    breaker.failed()
    return breaker


def test_breaker_fewer_failures_than_the_limit_stays_closed(clock: Clock) -> None:
    breaker = CircuitBreaker(2, 5.0, clock)
    for _ in range(3):
        breaker.failed()
        assert breaker.allows()
        breaker.succeeded()
    assert not breaker.open


def test_breaker_open_refuses_until_the_cool_down_ends(
    opened: CircuitBreaker, clock: Clock
) -> None:
    assert opened.open
    clock.now += 4.999
    assert not opened.allows()
    clock.now += 0.001
    assert opened.allows()


def test_breaker_half_open_lets_one_try_at_a_time(opened: CircuitBreaker, clock: Clock) -> None:
    clock.now += 5.0
    assert [opened.allows(), opened.allows()] == [True, False]


def test_breaker_failed_try_opens_it_again_at_once(opened: CircuitBreaker, clock: Clock) -> None:
    clock.now += 5.0
    opened.allows()
    opened.failed()
    clock.now += 4.999
    assert not opened.allows()


def test_breaker_successful_try_closes_it(opened: CircuitBreaker, clock: Clock) -> None:
    clock.now += 5.0
    opened.allows()
    opened.succeeded()
    assert not opened.open
    opened.failed()
    assert opened.allows()


def test_breaker_abandoned_try_leaves_the_next_one_free(
    opened: CircuitBreaker, clock: Clock
) -> None:
    clock.now += 5.0
    opened.allows()
    opened.abandoned()
    assert opened.allows()


def test_breaker_abandoned_while_closed_changes_nothing(clock: Clock) -> None:
    breaker = CircuitBreaker(1, 5.0, clock)
    breaker.abandoned()
    assert not breaker.open


@pytest.mark.parametrize(("failures", "cool_down_s"), [(0, 1.0), (1, -1.0)])
def test_breaker_limit_out_of_range_is_refused(failures: int, cool_down_s: float) -> None:
    with pytest.raises(ValueError, match=f"failures {failures}.*cool_down_s {cool_down_s}"):
        CircuitBreaker(failures, cool_down_s)
