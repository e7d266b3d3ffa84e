"""Leave to use AMX tiles, which Linux gives a process only on request.

vLLM 0.32 chooses kernels with AMX, for attention in bfloat16 among others, wherever the processor
has it, and does not ask. They work where oneDNN has asked before: it does with the first product
that it computes on tiles. With a model whose products are too small for that the process ends with
an illegal instruction. See Documentation/arch/x86/xstate.rst of Linux.
"""

from __future__ import annotations

import ctypes
import platform
import sys

_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_XTILEDATA = 18


def allow_tiles() -> None:
    """Ask for this process and those that it will fork; does nothing where there are none."""
    if sys.platform.startswith("linux") and platform.machine() in ("x86_64", "AMD64"):
        libc = ctypes.CDLL(None)
        libc.syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA)
