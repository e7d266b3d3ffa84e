"""NumPy implementations of every kernel: the meaning of the compiled ones, and their stand-in.

Every kernel takes NumPy arrays or, through DLPack and without copying, torch tensors on the CPU
(bfloat16 is uint16 to NumPy). Where a result has an ``out``, giving one writes there and returns
it, and leaving it out returns a new NumPy array. Reading arguments are copied where their last
axis is not contiguous; arguments that are written must be contiguous along their last axis. An
argument that is wrong is named: TypeError for types, ValueError for shapes, values, devices, and
memory in common with an argument that is written. The compiled kernels release the GIL above
about 20 microseconds of work; all are safe to call from several threads on different outputs.
"""

from .dense import attention, fp8_decode, fp8_encode, matmul
from .encoder import encoder_layer
from .layers import fused_add_rms_norm, q4_linear, q8_linear, rms_norm, rope, swiglu
from .logits import (
    apply_penalties,
    entropy,
    filter_logits,
    js_divergence,
    kl_divergence,
    log_softmax,
    softmax,
)
from .similarity import cosine_top_k, pairwise_cosine, quantize_rows

__all__ = [
    "apply_penalties", "attention", "cosine_top_k", "encoder_layer", "entropy", "filter_logits",
    "fp8_decode", "fp8_encode", "fused_add_rms_norm", "js_divergence", "kl_divergence",
    "log_softmax", "matmul", "pairwise_cosine", "q4_linear", "q8_linear", "quantize_rows",
    "rms_norm", "rope", "softmax", "swiglu",
]  # fmt: skip


def isa() -> str:
    """Return the name of this implementation."""
    return "numpy"
