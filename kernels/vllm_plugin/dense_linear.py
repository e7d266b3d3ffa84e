"""Packed integer weights as dense ones, where this vLLM has no operator for them.

vLLM 0.32's extension for AVX2 lacks ``cpu_gemm_wna16``, although its kernel for CPUs says that it
can do such layers on every processor: a model with one that ours cannot do would load and then fail
at its first token. Dense weights take four times the memory of 4-bit ones and give their results.
"""

from __future__ import annotations

import torch
from vllm.model_executor.kernels.linear import mixed_precision

from .packed_layer import unpacked


def vllm_has_operator() -> bool:
    """Whether vLLM multiplies packed weights here; after it has chosen its extension."""
    import vllm._custom_ops  # noqa: F401  # which this does

    return hasattr(torch.ops._C, "cpu_gemm_wna16")


class DenseLinearKernel(mixed_precision.MPLinearKernel):  # type: ignore[misc]
    """vLLM's interface for such layers over ``torch.nn.functional.linear``."""

    @classmethod
    def get_min_capability(cls) -> int:
        """Return -1: there is no such thing on a CPU."""
        return -1

    @classmethod
    def can_implement(cls, c: mixed_precision.MPLinearLayerConfig) -> tuple[bool, str | None]:
        """Say whether a layer of this form is to be done here: if vLLM would try and fail."""
        if vllm_has_operator():
            return False, "vLLM has an operator for it on this processor"
        return mixed_precision.CPUWNA16LinearKernel.can_implement(c)  # type: ignore[no-any-return]

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Unpack the weights."""
        dense = unpacked(self, layer).weight(self.config.act_type)
        for name in (self.w_q_name, self.w_s_name, self.w_zp_name):
            if name is not None and hasattr(layer, name):
                delattr(layer, name)
        layer.register_parameter(self.w_q_name, torch.nn.Parameter(dense, requires_grad=False))

    def apply_weights(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return x times the layer's weights, plus bias."""
        return torch.nn.functional.linear(x, getattr(layer, self.w_q_name), bias)
