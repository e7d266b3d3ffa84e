"""Starts and stops one vLLM engine and owns the processes it consists of.

The engine object lives in this process; its EngineCore, which on a CPU computes too, and Workers if
it has any, are children. They get their own environment and log through ``launch.py`` and are
killed, not asked, at the end: an engine keeps nothing that is worth a goodbye, and asking takes
seconds.

One thread per engine builds it, waits and takes it down: the kernel kills a child whose parent
*thread* ends, which is what makes engines die with this process, however it dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import importlib.util
import logging
import os
import re
import shutil
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from multiprocessing import resource_tracker
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..doctor.engine_tables import installed_engine
from ..engine_args import (
    cores_problem,
    engine_cores,
    engine_environment,
    engine_log_level,
    late_environment,
    usable_cores,
)
from ..errors import ExpertUnavailable
from ..spec import ExpertSpec
from .configured import engine_config, that_this_vllm_obeys
from .fork_server import ForkServer, launched_by
from .own_half import QUIET, keep_log, own_environment

log = logging.getLogger(__name__)

_SHARED_MEMORY = Path("/dev/shm")
_ONE_START_AT_A_TIME = threading.Lock()
_LONGEST_CAUSE = 300
_KILL_GRACE_S = 2.0
_LONGEST_SOCKET = 103  # bytes of a path; macOS has 104 with the zero at its end, Linux 108


class EngineProcess:
    """One engine: ``start`` once, then ``stop``; not to be used again.

    Attributes:
        engine: vLLM's ``AsyncLLM`` after ``start``.
    """

    def __init__(self, spec: ExpertSpec) -> None:
        self.engine: Any = None
        self._spec = spec
        self._folder: Path | None = None
        self._log_start = 0
        self._processes: list[Any] = []
        self._shared_memory: set[str] = set()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        """Build the engine off the event loop.

        Raises:
            ExpertUnavailable: with the cause in one line.
        """
        loop = asyncio.get_running_loop()
        built: asyncio.Future[None] = loop.create_future()
        name = f"engine-{self._spec.expert_id}"
        self._thread = threading.Thread(
            target=self._run, args=(loop, built), name=name, daemon=True
        )
        self._thread.start()
        try:
            async with asyncio.timeout(self._spec.start_timeout_s):
                await built
        except TimeoutError:
            limit_s = self._spec.start_timeout_s
            raise self._unavailable(f"did not start within {limit_s:.0f} s") from None
        except ExpertUnavailable:
            raise
        except Exception as error:
            raise self._unavailable(self._cause(error)) from error

    async def stop(self) -> None:
        """Kill the engine's processes, free what they shared, end the thread. Idempotent."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.shield(asyncio.to_thread(self._end, thread))

    def _end(self, thread: threading.Thread) -> None:
        while thread.is_alive():  # a start in mid-flight has nothing to kill yet
            self._kill_unborn()
            thread.join(0.05)

    def process_ids(self) -> tuple[int, ...]:
        """Ids of the engine's processes that are alive: EngineCore first, then its workers."""
        return tuple(process.pid for process in self._processes if _is_alive(process))

    def death_cause(self) -> str:
        """Return the first error of the engine's log in one line, or an empty string."""
        return first_error(self._log_path, self._log_start) if self._folder is not None else ""

    @property
    def _log_path(self) -> Path:
        if self._spec.engine_log is not None:
            return Path(self._spec.engine_log).absolute()
        assert self._folder is not None
        return self._folder / "engine.log"

    def _run(self, loop: asyncio.AbstractEventLoop, built: asyncio.Future[None]) -> None:
        try:
            with _ONE_START_AT_A_TIME, own_environment():
                _running.add(self)
                self._build()
        except BaseException as error:  # the waiting coroutine gets it, whatever it is
            _let_go(error)
            _tell(loop, built, error)
        else:
            _tell(loop, built, None)
        self._stopping.wait()
        self._take_down()

    def _build(self) -> None:
        if self._stopping.is_set():
            raise self._unavailable("stopped before it started")
        self._folder = Path(tempfile.mkdtemp(prefix="livemind-engine-"))
        with contextlib.suppress(OSError):
            self._log_start = self._log_path.stat().st_size
        keep_log(self._spec.engine_log)
        if importlib.util.find_spec("vllm") is None:
            raise self._unavailable("vLLM is not installed: install livemind[cpu] or livemind[gpu]")
        if problem := cores_problem(self._spec):
            raise self._unavailable(f"cpu_cores {self._spec.cpu_cores!r}: {problem}")
        if (installed := installed_engine()) is not None and installed.is_cpu:
            fork_server(engine_environment(self._spec, usable_cores()))  # it imports as we do
        self._spec = that_this_vllm_obeys(self._spec)
        from vllm.v1.engine.async_llm import AsyncLLM
        from vllm.v1.executor import Executor

        config = engine_config(self._spec)
        on_cpu = config.device_config.device_type == "cpu"
        resource_tracker.ensure_running()
        if self._stopping.is_set():
            raise self._unavailable("stopped while starting")
        os.environ.update(_sockets(self._folder))  # put back by ``own_environment``
        with self._children(on_cpu), _logging_in_the_engine(config, self._spec):
            self.engine = AsyncLLM(
                vllm_config=config,
                executor_class=Executor.get_class(config),
                log_stats=False,
                log_requests=False,
            )
        self._remember_processes()

    @contextlib.contextmanager
    def _children(self, on_cpu: bool) -> Iterator[None]:
        """Make vLLM start its processes as we want them: forked where that is possible."""
        assert self._folder is not None
        environment = engine_environment(self._spec, usable_cores())
        whole = {**environment, **late_environment(self._spec), **_own_files(self._folder)}
        settings: dict[str, Any] = {
            "environment": whole,
            "log": str(self._log_path),
            "pid_file": str(self._folder / "pid"),
            "cores": engine_cores(self._spec),
        }
        server = fork_server(environment) if on_cpu else None
        try:
            if server is None:
                with launched_by(self._folder, settings):
                    yield
            else:
                settings["environment"] = {**os.environ, **whole}
                with _forking(server, settings):
                    yield
        except (OSError, EOFError) as error:
            raise self._unavailable(str(error) or "the fork server died") from error

    def _remember_processes(self) -> None:
        core = _psutil().Process(int(self._pid_file().read_text()))
        self._processes = [core, *core.children(recursive=True)]
        for process in self._processes:
            self._shared_memory |= _shared_memory_of(process.pid)

    def _pid_file(self) -> Path:
        assert self._folder is not None
        return self._folder / "pid"

    def _kill_unborn(self) -> None:
        """End a start in mid-flight: the constructor raises once its child is dead."""
        if self.engine is None and self._folder is not None and self._pid_file().exists():
            with contextlib.suppress(OSError, ValueError, _psutil().Error):
                core = _psutil().Process(int(self._pid_file().read_text()))
                self._processes = [core, *core.children(recursive=True)]
            _kill(self._processes)

    def _take_down(self) -> None:
        _kill(self._processes)
        engine, self.engine = self.engine, None
        if engine is not None:
            _await_deaths(engine)
            engine.shutdown(timeout=0)
        _free(self._shared_memory)
        _running.discard(self)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _unavailable(self, cause: str) -> ExpertUnavailable:
        return ExpertUnavailable(self._spec.expert_id, cause)

    def _cause(self, error: BaseException) -> str:
        return self.death_cause() or one_line(f"{error}" or type(error).__name__)


def _sockets(folder: Path) -> dict[str, str]:
    """Let vLLM's sockets lie in ``folder``: it removes none of those that it makes."""
    longest = len(os.fsencode(folder / str(uuid.uuid4())))
    return {"VLLM_RPC_BASE_PATH": str(folder)} if longest <= _LONGEST_SOCKET else {}


def _own_files(folder: Path) -> dict[str, str]:
    """Let all that an engine leaves behind lie in ``folder``, apart from compiled code."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    compiled = f"{tempfile.gettempdir()}/torchinductor_{user}"  # where torch would keep it
    kept = os.environ.get("TORCHINDUCTOR_CACHE_DIR", compiled)
    return {**_sockets(folder), "TMPDIR": str(folder), "TORCHINDUCTOR_CACHE_DIR": kept}


def _await_deaths(engine: Any) -> None:
    """Wait until vLLM knows that its processes are dead; before that it fails to look for them."""
    manager = engine.engine_core.resources.engine_manager
    for process in manager.processes if manager is not None else ():
        process.join(_KILL_GRACE_S)


def first_error(log: Path, start: int = 0) -> str:
    """Return the first exception or signal a log names after byte ``start``, in one line, or ''."""
    try:
        text = log.read_bytes()[start:].decode("utf-8", "replace")
    except OSError:
        return ""
    found = re.search(
        r"^(?:.*\] )?((?:(?:\w+\.)*\w*(?:Error|Exception)|Fatal Python error): .*)$",
        text,
        re.MULTILINE,
    )
    return one_line(found[1]) if found else ""


def one_line(text: str) -> str:
    """Return the text fit to be shown: one line, no folders, of bounded length."""
    flat = " ".join(text.split())
    flat = re.sub(r"(?<![\w./:])(?:/[\w.+@-]+)+/(?=[\w.+@-])", "", flat)
    return flat if len(flat) <= _LONGEST_CAUSE else flat[: _LONGEST_CAUSE - 1] + "…"


_fork_server: ForkServer | None = None
_running: set[EngineProcess] = set()


def fork_server(environment: Mapping[str, str]) -> ForkServer | None:
    """Return this process's fork server, started at the first call; None if it cannot serve.

    There is one; an engine that needs another environment has to start the long way.
    """
    global _fork_server
    if _fork_server is None or not _fork_server.alive():
        if _fork_server is not None:
            _fork_server.stop()
        _fork_server = ForkServer(environment)
    fits = _fork_server.alive() and _fork_server.environment == environment
    return _fork_server if fits else None


def stop_fork_server() -> None:
    """End the fork server unless engines of this process run. Idempotent."""
    global _fork_server
    with _ONE_START_AT_A_TIME:
        if _fork_server is not None and not _running:
            _fork_server.stop()
            _fork_server = None


@contextlib.contextmanager
def _forking(server: ForkServer, settings: Mapping[str, Any]) -> Iterator[None]:
    """Make vLLM's engines forks of the server."""
    from vllm.v1.engine import utils

    context = utils.get_mp_context

    def forking() -> Any:
        return SimpleNamespace(Process=server.process_type(settings), Queue=context().Queue)

    utils.get_mp_context = forking
    try:
        yield
    finally:
        utils.get_mp_context = context


@contextlib.contextmanager
def _logging_in_the_engine(config: Any, spec: ExpertSpec) -> Iterator[None]:
    """Let the engine log although this process keeps vLLM silent: one configuration is for both."""
    from vllm.v1.engine import async_llm

    configure = getattr(async_llm, "configure_logging_if_needed", None)
    if configure is None or os.environ[QUIET] != "0":
        yield
        return
    config.logging_config.configure_logging = True
    config.logging_config.log_level = engine_log_level(spec)
    async_llm.configure_logging_if_needed = lambda _: None
    try:
        yield
    finally:
        async_llm.configure_logging_if_needed = configure


def _let_go(error: BaseException | None) -> None:
    """Free what the frames of a failed start hold: half an engine, with its sockets and threads."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _tell(
    loop: asyncio.AbstractEventLoop, built: asyncio.Future[None], error: BaseException | None
) -> None:
    def settle() -> None:
        if built.done():
            return
        if error is None:
            built.set_result(None)
        else:
            built.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
        loop.call_soon_threadsafe(settle)


def _psutil() -> Any:
    import psutil  # comes with vLLM

    return psutil


def _is_alive(process: Any) -> bool:
    try:
        return bool(process.is_running() and process.status() != _psutil().STATUS_ZOMBIE)
    except _psutil().NoSuchProcess:
        return False


def _kill(processes: list[Any]) -> None:
    """Kill the EngineCore first: nothing then runs clean-up code that could be cut in half."""
    for process in processes:
        with contextlib.suppress(_psutil().Error):
            process.kill()
    deadline = time.monotonic() + _KILL_GRACE_S
    while any(map(_is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.01)


def _shared_memory_of(pid: int) -> set[str]:
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return set()
    mapped = set(re.findall(r" /dev/shm/(psm_\w+)$", maps, re.MULTILINE))
    return mapped | {path.name for path in _SHARED_MEMORY.glob(f"sem.loky-{pid}-*")}


def _free(names: set[str]) -> None:
    """Remove what killed owners left behind; the resource tracker shall not mourn it at exit."""
    for name in names:
        with contextlib.suppress(OSError):
            (_SHARED_MEMORY / name).unlink()
            if name.startswith("sem."):
                resource_tracker.unregister(f"/{name.removeprefix('sem.')}", "semaphore")
            else:
                resource_tracker.unregister(f"/{name}", "shared_memory")
