"""Fixtures for all tests: a virtual clock and a check for leaked tasks.

``virtual_run(coroutine)`` runs code on an event loop whose clock jumps to the next timer, so that
seconds of conversation cost microseconds. It is for code that waits through asyncio (sleep,
timeouts, call_later); real sockets and threads need the ordinary loop. A loop that would wait for
ever raises.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
import pytest_asyncio

LONGEST_RUN_S = 3600.0


class Deadlock(RuntimeError):
    """Every task waits and no timer is set: in real time this would hang for ever."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never sleeps: a wait of ``timeout`` seconds moves the loop's clock instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Deadlock("no timer and nothing ready")
        ready: list[Any] = super().select(0)
        if not ready and timeout > 0:
            self.now_s += timeout
        if self.now_s > LONGEST_RUN_S:
            raise Deadlock(f"only periodic timers left after {LONGEST_RUN_S:g} virtual seconds")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Event loop with a virtual monotonic clock that starts at 0."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def _virtual_run(main: Coroutine[Any, Any, Any]) -> Any:
    async def guarded() -> Any:
        result = await main
        for _ in range(3):
            await asyncio.sleep(0)
        leaked = asyncio.all_tasks() - {asyncio.current_task()}
        assert not leaked, f"leaked tasks: {sorted(t.get_name() for t in leaked)}"
        return result

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(guarded())


@pytest.fixture
def virtual_run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine on a virtual clock; raises Deadlock for a hang, fails on a leaked task."""
    return _virtual_run


@pytest_asyncio.fixture(autouse=True)
async def no_leaked_tasks() -> AsyncIterator[None]:
    """Fail an async test that leaves a task behind."""
    before = asyncio.all_tasks()
    yield
    for _ in range(3):
        await asyncio.sleep(0)
    leaked = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not leaked, f"leaked tasks: {sorted(t.get_name() for t in leaked)}"


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what programs keep for their user out of the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
