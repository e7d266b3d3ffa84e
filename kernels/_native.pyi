"""The compiled kernels: signatures and meaning are those of ``reference.py``."""

from .arrays import Array, FloatArray
from .reference import apply_penalties as apply_penalties
from .reference import attention as attention
from .reference import cosine_top_k as cosine_top_k
from .reference import encoder_layer as encoder_layer
from .reference import entropy as entropy
from .reference import filter_logits as filter_logits
from .reference import fp8_decode as fp8_decode
from .reference import fp8_encode as fp8_encode
from .reference import fused_add_rms_norm as fused_add_rms_norm
from .reference import js_divergence as js_divergence
from .reference import kl_divergence as kl_divergence
from .reference import log_softmax as log_softmax
from .reference import matmul as matmul
from .reference import pairwise_cosine as pairwise_cosine
from .reference import q4_linear as q4_linear
from .reference import quantize_rows as quantize_rows
from .reference import rms_norm as rms_norm
from .reference import rope as rope
from .reference import softmax as softmax
from .reference import swiglu as swiglu

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
