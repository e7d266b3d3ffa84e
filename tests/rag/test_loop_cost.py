"""What a deadline gives up for the requests that run beside it."""

from __future__ import annotations

import pytest

from livemind.rag.loop_cost import FIRST_S, MOST_S, WINDOW, LoopCost


class Thread:
    """A thread's clock."""

    def __init__(self) -> None:
        self.used_s = 5.0

    def __call__(self) -> float:
        return self.used_s


def measured(request_s: float) -> LoopCost:
    thread = Thread()
    cost = LoopCost(thread)
    for _ in range(WINDOW + 1):
        cost.answered()
        thread.used_s += request_s
    return cost


def test_cost_before_a_measurement_is_assumed() -> None:
    assert LoopCost(Thread()).request_s == FIRST_S


def test_cost_is_the_processor_time_of_the_loop_by_request() -> None:
    assert measured(0.0005).request_s == pytest.approx(0.0005)


def test_cost_other_work_of_the_loop_is_not_taken_for_that_of_requests() -> None:
    assert measured(0.5).request_s == MOST_S


@pytest.mark.parametrize(("running", "left_s"), [(0, 0.05), (1, 0.04925), (20, 0.035), (90, 0.025)])
def test_time_left_falls_with_what_runs_to_half_at_most(running: int, left_s: float) -> None:
    assert measured(0.0005).time_left(0.05, running) == pytest.approx(left_s)
