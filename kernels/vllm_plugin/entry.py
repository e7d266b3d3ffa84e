"""What vLLM calls: puts the chosen operators in place, says so, and never raises."""

from __future__ import annotations

import logging
import multiprocessing
import os

from .choice import VARIABLE, chosen
from .hooks import Different

# vLLM shows what its own loggers say.
log = logging.getLogger("vllm.livemind_kernels")

_registered = False


def register() -> None:
    """Put the chosen operators in place and log one line that says so. Idempotent."""
    global _registered
    if _registered:
        return
    _registered = True
    try:
        names = chosen(os.environ.get(VARIABLE, ""))
        if not names:
            log.log(_level(), "LiveMind kernels: off")
            return
        from .install import install

        log.log(_level(), "LiveMind kernels%s", install(names))
    except Different as reason:
        log.log(_level(), "LiveMind kernels: none, %s", reason)
    except Exception as error:
        log.warning("LiveMind kernels: none, %s", " ".join(str(error).split()))


def _level() -> int:
    """Return where to say what is active: at INFO in the processes that compute."""
    in_children = os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING", "1") != "0"
    front_end = multiprocessing.parent_process() is None and in_children
    return logging.DEBUG if front_end else logging.INFO
