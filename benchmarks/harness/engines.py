"""A running server's processes, seen from outside: its engines and its memory."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ENGINE_NAME = "EngineCore"


@dataclass(frozen=True, slots=True)
class Memory:
    """Of several processes, bytes: shared pages divided among their users, and unshared ones."""

    pss: int
    uss: int


def server_pid(config: Path) -> int:
    """Return the process that serves this configuration file.

    Raises:
        LookupError: there is none.
    """
    for process in psutil.process_iter(["cmdline"]):
        if {str(config), "serve"}.issubset(process.info["cmdline"] or ()):
            return int(process.pid)
    raise LookupError(f"no process serves {config}")


def descendants(pid: int) -> tuple[int, ...]:
    """Return the processes below one, itself included."""
    with suppress(psutil.Error):
        return (pid, *(child.pid for child in psutil.Process(pid).children(recursive=True)))
    return (pid,)


def engines(pid: int) -> tuple[int, ...]:
    """Return the engine processes of a server that are alive."""
    return tuple(each for each in descendants(pid) if _is_engine(each))


def memory(pids: Iterable[int]) -> Memory:
    """Return what these processes take together."""
    pss = uss = 0
    for pid in pids:
        with suppress(psutil.Error):
            told = psutil.Process(pid).memory_full_info()
            pss, uss = pss + told.pss, uss + told.uss
    return Memory(pss, uss)


def _is_engine(pid: int) -> bool:
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        name: str = process.name()
        return name.startswith(ENGINE_NAME) and process.status() != psutil.STATUS_ZOMBIE
    return False
