"""RMSNorm, alone and after an addition, for models that run without being compiled.

A change of this file changes vLLM's key for compiled graphs, in which these never take part.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import kernels
from .hooks import Different, falling_back

PROVIDER = "livemind"
_TYPES = (torch.float32, torch.bfloat16, torch.float16)


def install_rms_norm() -> None:
    """Offer vLLM our RMSNorm and prefer it to its native one.

    Raises:
        Different: this vLLM does it in another way.
    """
    from vllm.ir import ops

    native = ops.rms_norm.impls["native"].impl_fn

    @falling_back("rms_norm", native)
    def ours(
        x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
    ) -> Tensor:
        assert weight is not None  # see _supported
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        size = x.shape[-1]
        kernels.rms_norm(x.reshape(-1, size), weight, epsilon, out.view(-1, size))
        return out

    def supports(
        x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
    ) -> bool:
        return _supported(x, weight, variance_size)

    _offer(ops.rms_norm, ours, supports, inplace=False)


def install_fused_add_rms_norm() -> None:
    """Offer vLLM our fused addition and RMSNorm and prefer it to its native one.

    Raises:
        Different: this vLLM does it in another way.
    """
    from vllm.ir import ops

    native = ops.fused_add_rms_norm.impls["native"].impl_fn

    @falling_back("fused_add_rms_norm", native)
    def ours(
        x: Tensor,
        x_residual: Tensor,
        weight: Tensor | None,
        epsilon: float,
        variance_size: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        assert weight is not None  # see _supported
        size = x.shape[-1]
        kernels.fused_add_rms_norm(x.view(-1, size), x_residual.view(-1, size), weight, epsilon)
        return x, x_residual

    def supports(
        x: Tensor,
        x_residual: Tensor,
        weight: Tensor | None,
        epsilon: float,
        variance_size: int | None = None,
    ) -> bool:
        return (
            _supported(x, weight, variance_size)
            and x.is_contiguous()
            and x_residual.is_contiguous()
        )

    _offer(ops.fused_add_rms_norm, ours, supports, inplace=True)


def _supported(x: Tensor, weight: Tensor | None, variance_size: int | None) -> bool:
    return (
        not torch.compiler.is_compiling()
        and variance_size is None
        and weight is not None
        and x.dtype in _TYPES
        and weight.dtype == x.dtype
    )


def _offer(op: Any, ours: Any, supports: Any, *, inplace: bool) -> None:
    """Register an implementation; vLLM refuses one whose signature is not its own."""
    from vllm.config.kernel import IrOpPriorityConfig

    for needed in ("register_impl", "set_default", "get_priority"):
        if not hasattr(op, needed):
            raise Different(f"operators of this vLLM have no {needed}")
    set_defaults = IrOpPriorityConfig.set_default
    op.register_impl(PROVIDER, supports_args=supports, inplace=inplace)(ours)

    def set_default(self: Any) -> None:
        set_defaults(self)
        if op.get_priority() == ["native"]:  # not what somebody has asked for
            op.set_default([PROVIDER, "native"])

    IrOpPriorityConfig.set_default = set_default
