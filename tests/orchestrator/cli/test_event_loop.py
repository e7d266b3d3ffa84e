"""The serving loop's clock."""

from __future__ import annotations

import asyncio
import time

import pytest

from livemind.orchestrator.cli import event_loop


@pytest.fixture
def runner() -> asyncio.Runner:
    return asyncio.Runner(loop_factory=event_loop.new_loop)


def test_clock_goes_on_while_a_callback_runs(runner: asyncio.Runner) -> None:
    def busy(loop: asyncio.AbstractEventLoop) -> float:
        before = loop.time()
        time.sleep(0.0002)
        return loop.time() - before

    async def main() -> float:
        return busy(asyncio.get_running_loop())

    with runner:
        assert 0.0002 <= runner.run(main()) < 0.2


def test_timers_keep_their_order_and_are_not_early(runner: asyncio.Runner) -> None:
    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        fired: list[tuple[str, float]] = []
        done = asyncio.Event()

        def fire(name: str) -> None:
            fired.append((name, loop.time() - began))
            if len(fired) == 2:
                done.set()

        loop.call_at(began + 0.02, fire, "b")
        loop.call_at(began + 0.01, fire, "a")
        async with asyncio.timeout(5):
            await done.wait()
        return fired

    with runner:
        fired = runner.run(main())
    assert [name for name, _ in fired] == ["a", "b"]
    assert fired[0][1] >= 0.009
    assert fired[1][1] >= 0.019


def test_runner_ends_with_the_coroutine_and_raises_what_it_raises() -> None:
    async def main() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        event_loop.run(main())
