"""The compiled kernels: signatures and meaning are those of ``reference.py``."""

from .arrays import Array, FloatArray
from .reference import (
    apply_penalties as apply_penalties,
    attention as attention,
    cosine_top_k as cosine_top_k,
    encoder_layer as encoder_layer,
    entropy as entropy,
    filter_logits as filter_logits,
    fp8_decode as fp8_decode,
    fp8_encode as fp8_encode,
    fused_add_rms_norm as fused_add_rms_norm,
    js_divergence as js_divergence,
    kl_divergence as kl_divergence,
    log_softmax as log_softmax,
    matmul as matmul,
    pairwise_cosine as pairwise_cosine,
    q4_linear as q4_linear,
    q8_linear as q8_linear,
    quantize_rows as quantize_rows,
    rms_norm as rms_norm,
    rope as rope,
    softmax as softmax,
    swiglu as swiglu,
)

def acl_matmul(a: Array, b: Array, out: Array | None = None) -> FloatArray:
    """Return what ``matmul`` does, by Arm Compute Library.

    There only in builds with ``-DLIVEMIND_ACL_ROOT``. Source: its class NEGEMM.
    """

def isa() -> str:
    """Return the tier that runs."""

def tiers() -> list[str]:
    """Return the tiers that this processor runs, slowest first."""

def select(name: str) -> None:
    """Run another tier from now on, in every thread: for tests and measurements.

    Raises:
        ValueError: no such tier, or this processor cannot run it.
    """

def flash_threshold() -> int:
    """Return from how many keys on ``attention`` uses the online softmax by default."""

def set_flash_threshold(keys: int) -> None:
    """Set it, for every thread; ``livemind.kernels.tune`` measures it."""

def read_all(x: Array) -> float:
    """Return the sum of float32 (n,), reading it once at the speed of the memory."""

def multiply_adds(rounds: int) -> float:
    """Run multiply-adds in registers; return how many floating-point operations that were."""
