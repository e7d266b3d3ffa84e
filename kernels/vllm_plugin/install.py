"""Puts operators into this process's vLLM, each for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .. import dispatch
from . import norms, penalties, q4_linear, sampling
from .hooks import require_known_vllm


def _decoder_layer() -> None:
    from .decoder_layers import install as install_decoder_layers  # imports vLLM's models

    install_decoder_layers()


INSTALLERS: dict[str, Callable[[], None]] = {
    "sampling": sampling.install,
    "penalties": penalties.install,
    "q4_linear": q4_linear.install,
    "rms_norm": norms.install_rms_norm,
    "fused_add_rms_norm": norms.install_fused_add_rms_norm,
    "decoder_layer": _decoder_layer,
}


def install(names: Sequence[str]) -> str:
    """Install these operators; return what is active, and why the others are not.

    Raises:
        Different: none can be, see ``require_known_vllm``.
    """
    require_known_vllm()
    active, without = [], []
    for name in names:
        try:
            INSTALLERS[name]()
        except Exception as error:
            without.append(f"; without {name}: {' '.join(str(error).split())}")
        else:
            active.append(name)
    return f" ({dispatch.isa()}): {', '.join(active) or 'none'}{''.join(without)}"
