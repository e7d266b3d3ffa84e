"""What vLLM calls: asks for AMX tiles, offers our quantization methods, puts operators in place.

Never raises. Operators only in processes that compute: vLLM's front end loads its plugins as well.
"""

from __future__ import annotations

import logging
import multiprocessing
import os

from .hooks import Different
from .operator_selection import VARIABLE, chosen
from .tiles import allow_tiles

# vLLM shows what its own loggers say.
log = logging.getLogger("vllm.livemind_kernels")

_registered = False


def register() -> None:
    """Do all three, and log one line of the operators. Idempotent."""
    global _registered
    if _registered:
        return
    computes = _registered = not _in_front_end()
    if computes:
        allow_tiles()
    try:
        from .quantization import install as offer_quantization

        offer_quantization()
        if not computes:
            return
        names = chosen(os.environ.get(VARIABLE, ""))
        if not names:
            log.info("LiveMind kernels: off")
            return
        from .install import install

        log.info("LiveMind kernels%s", install(names))
    except Different as reason:
        log.log(logging.INFO if computes else logging.DEBUG, "LiveMind kernels: none, %s", reason)
    except Exception as error:
        log.warning("LiveMind kernels: none, %s", " ".join(str(error).split()))


def _in_front_end() -> bool:
    """Whether this process leaves the computing to its children."""
    in_children = os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING", "1") != "0"
    return in_children and multiprocessing.parent_process() is None
