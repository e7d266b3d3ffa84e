"""Puts operators into this process's vLLM, each for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import vllm
from vllm.platforms import current_platform

from .. import dispatch
from . import norms, penalties, q4_linear, sampling
from .hooks import Different

KNOWN_VERSION = (0, 32)

INSTALLERS: dict[str, Callable[[], None]] = {
    "sampling": sampling.install,
    "penalties": penalties.install,
    "q4_linear": q4_linear.install,
    "rms_norm": norms.install_rms_norm,
    "fused_add_rms_norm": norms.install_fused_add_rms_norm,
}


def install(names: Sequence[str]) -> str:
    """Install these operators; return what is active, and why the others are not.

    Raises:
        Different: none can be.
    """
    if not current_platform.is_cpu():
        raise Different("vLLM does not compute on the CPU")
    if dispatch.isa() == "numpy":
        raise Different("the compiled kernels are not installed")
    version = tuple(int(part) for part in vllm.__version__.split(".")[:2])
    if version != KNOWN_VERSION:
        known = ".".join(map(str, KNOWN_VERSION))
        raise Different(f"written for vLLM {known}, this is {vllm.__version__}")
    active, without = [], []
    for name in names:
        try:
            INSTALLERS[name]()
        except Exception as error:
            without.append(f"; without {name}: {' '.join(str(error).split())}")
        else:
            active.append(name)
    return f" ({dispatch.isa()}): {', '.join(active) or 'none'}{''.join(without)}"
