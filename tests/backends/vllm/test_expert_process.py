"""How engines start, die and are taken down: nothing is left of them."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from livemind.backends.base import Priority, TokenPrompt
from livemind.backends.errors import ExpertUnavailable
from livemind.backends.spec import ExpertSpec
from livemind.backends.vllm.expert import VllmExpert

from ..conftest import Run
from .asking import (
    ENDLESS,
    collect,
    spec_of,
    until,
    user,
)

pytest.importorskip("vllm")
CORE = str(min(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else "0"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("cpu_cores", [None, CORE])
def test_engine_killed_in_mid_stream_fails_at_once_and_starts_again(
    run: Run, tiny_model: Path, cpu_cores: str | None
) -> None:
    expert = VllmExpert(spec_of(tiny_model, cpu_cores=cpu_cores))

    async def kill_in_mid_stream(victim: int, request_id: str, by: signal.Signals) -> float:
        prompt = expert.render(user("Endless"), open_turn=False)
        stream = expert.generate(
            prompt, ENDLESS, priority=Priority.FOREGROUND, request_id=request_id
        )
        await anext(stream)
        os.kill(expert.process_ids()[victim], by)
        killed_at = time.monotonic()
        with pytest.raises(ExpertUnavailable):
            _ = [chunk async for chunk in stream]
        return time.monotonic() - killed_at

    async def main() -> None:
        for attempt in range(1 if cpu_cores else 2):  # who died does not matter to the next start
            await expert.start()
            children = expert.process_ids()
            assert len(children) == 1  # the EngineCore computes, with cores of its own too
            if cpu_cores is not None and hasattr(os, "sched_getaffinity"):
                assert os.sched_getaffinity(children[0]) == {int(cpu_cores)}
            shared = shared_memory(*children)
            by = signal.SIGILL if attempt else signal.SIGKILL
            assert await kill_in_mid_stream(-1, f"kill-{attempt}", by) < 5
            health = await expert.health()
            assert not health.ok
            assert "died" in health.detail
            assert ("Illegal instruction" in health.detail) == (by == signal.SIGILL)
            with pytest.raises(ExpertUnavailable):
                await collect(expert, TokenPrompt((1, 2), 2))
            await expert.stop()
            assert not any(is_running(pid) for pid in children)
            assert not left(shared)

    run(main())


def test_stop_in_mid_stream_ends_every_request_at_once(run: Run, tiny_model: Path) -> None:
    async def main() -> None:
        expert = VllmExpert(spec_of(tiny_model, max_num_seqs=1))
        await expert.start()
        prompt = expert.render(user("Endless"), open_turn=False)

        async def ask(number: int) -> None:
            stream = expert.generate(
                prompt, ENDLESS, priority=Priority.FOREGROUND, request_id=f"r{number}"
            )
            async for _ in stream:
                begun.set()

        begun = asyncio.Event()
        asked = [asyncio.create_task(ask(number)) for number in range(3)]  # two of them wait
        await begun.wait()
        expert._engine.output_handler.cancel()  # vLLM may have been taken down before it told them
        await expert.stop()
        async with asyncio.timeout(30):  # of 120 that a token may take
            told = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(error) for error in told] == [ExpertUnavailable] * 3

    run(main())


def test_expert_stopped_leaves_no_file_in_the_temporary_folder(
    run: Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(tempfile.mkdtemp())  # pytest's own is too long for the path of a socket
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    of_this_process = ("livemind-forks-", "pymp-")  # every engine's, as long as this process lives

    def files() -> list[str]:
        return [it.name for it in folder.iterdir() if not it.name.startswith(of_this_process)]

    async def main() -> None:
        expert = VllmExpert(spec_of(tiny_model))
        await expert.start()
        assert len(files()) == 1  # a folder with its log, its sockets and whatever else
        await expert.stop()
        assert files() == []

    try:
        run(main())
    finally:
        shutil.rmtree(folder)


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie that somebody else has to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def shared_memory(*pids: int) -> set[str]:
    """Return the files of shared memory, semaphores too, that these processes have mapped."""
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in pids)
    return set(re.findall(r"/dev/shm/\S+$", maps, re.MULTILINE))  # not the deleted ones


def left(files: set[str]) -> list[str]:
    return [name for name in files if Path(name).exists()]


PARENT = """
import asyncio, sys
from livemind.backends.spec import ExpertSpec
from livemind.backends.vllm.expert import VllmExpert

async def main():
    expert = VllmExpert(ExpertSpec("tiny", model_path=sys.argv[1], kv_cache_gib=0.1))
    await expert.start()
    print("PIDS", *expert.process_ids(), flush=True)
    sys.stdin.readline()
    if sys.argv[2] == "leave":
        await expert.stop()
        return
    await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize("end", ["leave", "kill"])
def test_engine_parent_ends_children_end_and_the_terminal_stays_silent(
    tmp_path: Path, tiny_model: Path, end: str
) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tiny_model), end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    first_line = parent.stdout.readline()
    children = [int(pid) for pid in first_line.split()[1:]]
    shared = shared_memory(parent.pid, *children) if children else set()
    if end == "kill" or not children:
        parent.kill()
    output, errors = parent.communicate("\n", timeout=60)
    if end == "kill":  # Python's own resource tracker says what it had to tidy up
        lines = [line for line in errors.splitlines() if "resource_tracker" not in line]
        errors = "".join(line for line in lines if not line.startswith("  warnings.warn("))
    assert (len(children), output, errors) == (1, "", "")
    deadline = time.monotonic() + 20
    while any(map(is_running, children)) or left(shared):
        assert time.monotonic() < deadline, "the engine outlives its parent"
        time.sleep(0.1)


def test_start_broken_weights_says_why_in_one_line(
    run: Run, tiny_model: Path, tmp_path: Path
) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}              ")
    expert = VllmExpert(spec_of(tmp_path))
    with pytest.raises(ExpertUnavailable) as caught:
        run(expert.start())
    assert "\n" not in caught.value.message
    assert "rror" in caught.value.message
    assert str(tmp_path) not in caught.value.message
    assert expert.process_ids() == ()


def test_start_cancelled_leaves_no_process(run: Run, tiny_model: Path) -> None:
    expert = VllmExpert(spec_of(tiny_model))

    async def main() -> tuple[int, ...]:
        task = asyncio.create_task(expert.start())
        await until(lambda: expert._process is not None and expert._process._folder is not None)
        assert expert._process is not None
        pid_file = expert._process._pid_file()
        await until(lambda: pid_file.exists() and pid_file.read_text() != "")
        pid = int(pid_file.read_text())
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return (pid,)

    assert not any(is_running(pid) for pid in run(main()))


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"model_path": "/no/such/model"}, "no such folder"),
        ({"model_path": "zoo:nobody"}, "no embedded expert 'zoo:nobody'"),
        ({"model_path": None}, "model_path is missing"),
        ({"quantization": "no-such-method"}, "no-such-method"),
        ({"dtype": "int3"}, "int3"),
        ({"neon_optimizations": {"rope": True}}, "neon_optimizations.rope: got true, but it stays"),
    ],
)
def test_start_impossible_setting_is_refused_by_name(
    run: Run, tiny_model: Path, settings: dict[str, Any], cause: str
) -> None:
    values = {"expert_id": "bad", "model_path": str(tiny_model), **settings}
    with pytest.raises(ExpertUnavailable) as caught:
        run(VllmExpert(ExpertSpec(**values)).start())
    assert cause in caught.value.message
    assert "\n" not in caught.value.message
