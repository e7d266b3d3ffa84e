"""A process that has imported vLLM and forks engines, so that only the first one waits for imports.

``multiprocessing``'s fork server, with three differences: it is our own (the program that embeds
LiveMind may use another), it runs in the environment of its engines, because OpenMP and torch read
theirs when they are imported, and it dies with this process however that ends.

Forking is safe because nothing has computed there: the server is one thread that has only imported.
"""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import (
    context,
    forkserver,
    popen_forkserver,
    process,
    reduction,
    resource_tracker,
    spawn,
    util,
)
from pathlib import Path
from typing import Any

from . import launch

log = logging.getLogger(__name__)

# What an engine of vLLM 0.32 imports on a CPU; of another version the engine imports the rest.
VLLM_MODULES = (
    "vllm.v1.engine.core",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.cpu_model_runner",
    "vllm.v1.attention.backends.cpu_attn",
    "vllm.model_executor.model_loader",
    "vllm.model_executor.models.llama",
    "vllm.v1.structured_output",
    f"{__package__}.preloaded",
)
_EXECUTABLE = threading.Lock()


class ForkServer:
    """Starts at once and imports while its user goes on; thread-safe.

    Args:
        environment: what it and its engines find set, on top of what they inherit.
        preload: the modules to import first.
    """

    def __init__(
        self, environment: Mapping[str, str], preload: Sequence[str] = VLLM_MODULES
    ) -> None:
        self.environment = dict(environment)
        self._server = forkserver.ForkServer()
        self._server.set_forkserver_preload(list(preload))
        self._folder = Path(tempfile.mkdtemp(prefix="livemind-forks-"))
        self._stopped = threading.Event()
        started = threading.Event()
        # The kernel kills the server when the thread that started it ends.
        self._keeper = threading.Thread(target=self._keep, args=(started,), daemon=True)
        self._keeper.name = "vllm-fork-server"
        self._keeper.start()
        started.wait()

    def stop(self) -> None:
        """Kill the server, and with it the processes that it forked. Idempotent."""
        self._stopped.set()
        self._keeper.join()

    def alive(self) -> bool:
        """Whether it can fork; one that died stays dead."""
        pid = self._pid
        try:
            return pid is not None and os.waitpid(pid, os.WNOHANG) == (0, 0)
        except ChildProcessError:
            return False

    @property
    def _pid(self) -> int | None:
        pid: int | None = getattr(self._server, "_forkserver_pid", None)
        return pid

    def process_type(self, settings: Mapping[str, Any]) -> Callable[..., process.BaseProcess]:
        """Return what makes processes like ``multiprocessing.Process``, forked by this server.

        ``settings``: as in `launch.py`.
        """

        def make(*args: Any, **kwargs: Any) -> process.BaseProcess:
            parent = {**settings, "parent": self._pid}
            return _ForkedProcess(self._connect, parent, *args, **kwargs)

        return make

    def _keep(self, started: threading.Event) -> None:
        try:
            self._start()
        except Exception as error:  # an engine then starts the long way
            log.warning("no fork server for vLLM: %s", error)
        finally:
            started.set()
        self._stopped.wait()
        if self.alive() and self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        if (alive_fd := getattr(self._server, "_forkserver_alive_fd", None)) is not None:
            os.close(alive_fd)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        settings = {
            "environment": self.environment,
            "log": os.devnull,
            "pid_file": str(self._folder / "pid"),
        }
        resource_tracker.ensure_running()  # it is everybody's, not to be launched like an engine
        with launched_by(self._folder, settings):
            self._server.ensure_running()

    def _connect(self, fds: list[int]) -> tuple[int, int]:
        if not self.alive():  # the library would start a plain interpreter in its place
            raise OSError("the fork server died")
        connect: Callable[[list[int]], tuple[int, int]] = self._server.connect_to_new_process
        return connect(fds)


@contextmanager
def launched_by(folder: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Make ``multiprocessing`` start its Python interpreters through `launch.py`.

    Args:
        folder: holds the program that does it.
        settings: as in `launch.py`; ``python`` and ``parent`` are added.

    Raises:
        OSError: programs in ``folder`` cannot be run.
    """
    file = folder / "settings.json"
    whole = {"python": sys.executable, "parent": os.getpid(), **settings}
    file.write_text(json.dumps(whole), encoding="utf-8")
    command = shlex.join([sys.executable, "-IS", str(Path(launch.__file__)), str(file)])
    program = folder / "launch"
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    program.chmod(0o700)
    if not os.access(program, os.X_OK):
        raise OSError("the temporary folder allows no programs: set TMPDIR")
    with _EXECUTABLE:
        before = os.fsdecode(spawn.get_executable())
        multiprocessing.set_executable(str(program))
        try:
            yield
        finally:
            multiprocessing.set_executable(before)


class _ForkedProcess(process.BaseProcess):
    """A process forked by the server; what it is to become travels through a pipe."""

    _start_method = "forkserver"

    def __init__(
        self,
        connect: Callable[[list[int]], tuple[int, int]],
        settings: Mapping[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.connect: Callable[[list[int]], tuple[int, int]] | None = connect
        self._settings = dict(settings)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "connect": None}

    def run(self) -> None:
        launch.settle(self._settings)
        launch.name_process(self.name)
        super().run()

    @staticmethod
    def _Popen(process_obj: _ForkedProcess) -> _Popen:
        return _Popen(process_obj)


class _Popen(popen_forkserver.Popen):
    """Hands a process over to our server instead of the interpreter's own."""

    _fds: list[int]

    def _launch(self, process_obj: Any) -> None:
        body = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process_obj.name), body)
            reduction.dump(process_obj, body)
        finally:
            context.set_spawning_popen(None)
        self.sentinel, request = process_obj.connect(self._fds)
        we_live = os.dup(request)
        self.finalizer = util.Finalize(self, _close, (we_live, self.sentinel))
        with open(request, "wb") as pipe:
            pipe.write(body.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


def _close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)
