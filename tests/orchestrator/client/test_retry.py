"""What is asked again, how often and after which wait: a function that fails, a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from livemind.orchestrator.client.retry import (
    FIRST_WAIT_S,
    LONGEST_RETRY_AFTER_S,
    LONGEST_WAIT_S,
    may_be_repeated,
    repeated,
    was_not_taken,
)
from livemind.orchestrator.errors import LiveMindError, NotFound, Overloaded, Unavailable


def failing(*failures: LiveMindError) -> Callable[[], Any]:
    left = list(failures)

    async def call() -> str:
        if left:
            raise left.pop(0)
        return "answer"

    return call


def test_repeated_waits_longer_each_time_and_never_without_bound(virtual_run: Any) -> None:
    async def run() -> float:
        failures = [Unavailable("gone") for _ in range(9)]
        assert await repeated(failing(*failures), 10) == "answer"
        return asyncio.get_running_loop().time()

    took_s = virtual_run(run())
    assert FIRST_WAIT_S / 100 < took_s < 9 * LONGEST_WAIT_S


def test_repeated_waits_at_least_what_the_server_says(virtual_run: Any) -> None:
    async def run() -> float:
        assert await repeated(failing(Overloaded("full", retry_after_s=30.0)), 2) == "answer"
        return asyncio.get_running_loop().time()

    assert 30.0 <= virtual_run(run()) <= 30.0 + FIRST_WAIT_S


def test_repeated_last_attempt_raises_its_own_error(virtual_run: Any) -> None:
    async def run() -> None:
        with pytest.raises(Unavailable, match="second"):
            await repeated(failing(Unavailable("first"), Unavailable("second")), 2)

    virtual_run(run())


def test_repeated_failure_that_was_made_counts_and_is_waited_for(virtual_run: Any) -> None:
    async def run() -> None:
        lost = Unavailable("shutting down", retry_after_s=1.0)
        assert await repeated(failing(), 2, failure=lost) == "answer"
        assert asyncio.get_running_loop().time() >= 1.0
        with pytest.raises(Unavailable, match="shutting down"):
            await repeated(failing(), 1, failure=lost)

    virtual_run(run())


@pytest.mark.parametrize(
    ("exc", "repeatable", "taken"),
    [
        (Overloaded("full", retry_after_s=1.0), True, False),
        (Unavailable("nothing there", code="unreachable"), True, False),
        (Unavailable("broke", code="connection_lost"), True, True),
        (Unavailable("no expert"), True, True),
        (Unavailable("malformed", code="protocol_error"), False, True),
        (Overloaded("full", retry_after_s=LONGEST_RETRY_AFTER_S + 1), False, True),
        (NotFound("no such session"), False, True),
        (ValueError("a fault of ours"), False, True),
    ],
)
def test_failure_is_repeated_only_if_the_question_was_not_taken(
    exc: Exception, repeatable: bool, taken: bool
) -> None:
    assert may_be_repeated(exc) is repeatable
    assert was_not_taken(exc) is not taken
