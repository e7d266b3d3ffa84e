"""The fork server gives its children what a launched engine gets, and takes them along."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from livemind.backends.vllm import process as vllm_process
from livemind.backends.vllm.fork_server import ForkServer

SHOW = "echo $LIVEMIND_TEST; echo wrong >&2; cat /proc/$PPID/comm"


@pytest.fixture
def server() -> Iterator[ForkServer]:
    made = ForkServer({"LIVEMIND_TEST": "server"}, preload=["json"])
    yield made
    made.stop()


def settings(folder: Path, **environment: str) -> dict[str, Any]:
    return {
        "environment": environment,
        "log": str(folder / "log"),
        "pid_file": str(folder / "pid"),
    }


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_forked_process_has_its_environment_log_and_process_id(
    server: ForkServer, tmp_path: Path
) -> None:
    make = server.process_type(settings(tmp_path, LIVEMIND_TEST="engine"))
    process = make(target=os.system, args=(SHOW,), name="child")
    process.start()
    process.join(20)
    assert process.exitcode == 0
    assert (tmp_path / "log").read_text() == "engine\nwrong\nchild\n"
    assert int((tmp_path / "pid").read_text()) == process.pid


def test_forked_process_inherits_the_servers_environment(
    server: ForkServer, tmp_path: Path
) -> None:
    process = server.process_type(settings(tmp_path))(
        target=os.system, args=("echo $LIVEMIND_TEST",)
    )
    process.start()
    process.join(20)
    assert (tmp_path / "log").read_text() == "server\n"


def test_failing_process_says_so_in_its_log_and_exit_code(
    server: ForkServer, tmp_path: Path
) -> None:
    process = server.process_type(settings(tmp_path))(target=os.rmdir, args=("/no-such-folder",))
    process.start()
    process.join(20)
    assert process.exitcode == 1
    assert "FileNotFoundError" in (tmp_path / "log").read_text()


def test_stopped_server_takes_its_processes_along(server: ForkServer, tmp_path: Path) -> None:
    process = server.process_type(settings(tmp_path))(target=time.sleep, args=(600,))
    process.start()
    pid = process.pid
    assert pid is not None
    until((tmp_path / "pid").exists)
    server.stop()
    until(lambda: gone(pid))
    until(lambda: not process.is_alive())


def test_engine_of_another_environment_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ForkServer({"OMP_NUM_THREADS": "1"}, preload=["json"])
    try:
        monkeypatch.setattr(vllm_process, "_fork_server", made)
        assert vllm_process.fork_server({"OMP_NUM_THREADS": "1"}) is made
        assert vllm_process.fork_server({"OMP_NUM_THREADS": "2"}) is None
    finally:
        made.stop()


def test_server_is_stopped_only_when_no_engine_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ForkServer({}, preload=["json"])
    monkeypatch.setattr(vllm_process, "_fork_server", made)
    monkeypatch.setattr(vllm_process, "_running", {object()})
    vllm_process.stop_fork_server()
    assert vllm_process.fork_server({}) is made
    monkeypatch.setattr(vllm_process, "_running", set())
    vllm_process.stop_fork_server()
    assert made._stopped.is_set()
    assert vllm_process._fork_server is None


def test_server_that_died_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ForkServer({}, preload=["json"])
    monkeypatch.setattr(vllm_process, "_fork_server", made)
    monkeypatch.setattr(vllm_process, "ForkServer", lambda env: ForkServer(env, preload=["json"]))
    assert made._pid is not None
    os.kill(made._pid, signal.SIGKILL)
    until(lambda: not made.alive())
    replacement = vllm_process.fork_server({})
    assert replacement is not None
    assert replacement is not made
    assert replacement.alive()
    replacement.stop()
    made.stop()


def test_server_that_died_forks_nothing(server: ForkServer, tmp_path: Path) -> None:
    assert server._pid is not None
    os.kill(server._pid, signal.SIGKILL)
    until(lambda: not server.alive())
    process = server.process_type(settings(tmp_path))(target=os.getpid)
    with pytest.raises(OSError, match="fork server died"):
        process.start()


def test_stopped_server_leaves_no_descriptor_open() -> None:
    ForkServer({}, preload=["json"]).stop()  # starts what multiprocessing keeps for good
    before = os.listdir("/proc/self/fd")
    ForkServer({}, preload=["json"]).stop()
    assert len(os.listdir("/proc/self/fd")) == len(before)
