"""vLLM's half in this process: loaded and configured without changing the program around it.

vLLM is configured by environment variables, sets some itself, and logs through handlers of its own.
Here they are what they have to be while an engine is built, and afterwards what they were.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

QUIET = "VLLM_CONFIGURE_LOGGING"
_WHILE_BUILDING = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}
_UNLESS_SET = {QUIET: "0", "TRANSFORMERS_VERBOSITY": "error"}


@contextmanager
def own_environment() -> Iterator[None]:
    """Set what vLLM reads when it is imported and builds an engine; put everything back at the end.

    The environment is the whole process's: one thread at a time. What another thread sets
    meanwhile is put back as well.
    """
    before = dict(os.environ)
    os.environ.update(_WHILE_BUILDING)
    for name, value in _UNLESS_SET.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def keep_log(engine_log: str | None) -> None:
    """Let what vLLM says in this process stand in the engine's log too, if it has one.

    Levels and propagation stay the program's. Call inside ``own_environment``.
    """
    if os.environ[QUIET] != "0":  # vLLM logs as it likes
        return
    logger = logging.getLogger("vllm")
    if engine_log is None:
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())  # without any, warnings would go to stderr
        return
    path = str(Path(engine_log).absolute())
    if path not in (getattr(handler, "baseFilename", "") for handler in logger.handlers):
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logger.addHandler(handler)
