"""What stands between ``multiprocessing`` and an engine's Python.

    python launch.py SETTINGS.json PYTHON-ARGUMENTS…

Gives the process its own environment and its own output file, makes it die with its parent, writes
its process id down, and becomes the interpreter that ``multiprocessing`` wanted to start. A forked
engine does the same by ``settle``. SETTINGS: ``{"python", "parent", "environment", "log",
"pid_file", "cores"}``; no cores: all. Imports nothing of LiveMind, because as a program it runs
without site-packages.
"""

import faulthandler
import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15


def main() -> None:
    """Replace this process by the engine's; returns only by an exception."""
    with open(sys.argv[1], encoding="utf-8") as file:
        settings = json.load(file)
    settle(settings)
    os.execv(settings["python"], [settings["python"], *sys.argv[2:]])


def settle(settings: Mapping[str, Any]) -> None:
    """Make this process an engine's: parent, process id, output and environment."""
    _die_with(settings["parent"])
    with open(settings["pid_file"], "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    if settings.get("cores") and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, settings["cores"])
    log = os.open(settings["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.update(settings["environment"])
    os.environ["PYTHONFAULTHANDLER"] = "1"  # of the interpreter that is started
    faulthandler.enable()  # of a fork: its log tells what a signal ended
    if "tempfile" in sys.modules:  # a fork has looked TMPDIR up before
        sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]


def name_process(name: str) -> None:
    """Set what ``ps`` and ``top`` show, 15 bytes of it; setproctitle finds no place in a fork."""
    _prctl(PR_SET_NAME, name.encode())


def _die_with(parent: int) -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if sys.platform.startswith("linux") and os.getppid() != parent:
        sys.exit(1)


def _prctl(option: int, value: Any) -> None:
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
