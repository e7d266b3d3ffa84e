"""A linear layer with packed integer weights, as vLLM hands it over in the form of GPTQ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from vllm.model_executor.layers.quantization.utils.quant_utils import (
    unpack_quantized_values_into_int32,
)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The numbers of a layer; a weight is ``(code - zero) * scale`` of its group of inputs.

    Attributes:
        codes: int32 (outputs, inputs).
        scales: float32 (outputs, groups).
        zeros: float32 (outputs, groups), or one number for all.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor | float

    def weight(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the dense weight (outputs, inputs)."""
        group = self.codes.shape[1] // self.scales.shape[1]
        scales = self.scales.repeat_interleave(group, 1)
        zeros = self.zeros
        if isinstance(zeros, torch.Tensor):
            zeros = zeros.repeat_interleave(group, 1)
        return ((self.codes - zeros) * scales).to(dtype)


def unpacked(kernel: Any, layer: torch.nn.Module) -> Unpacked:
    """Return the numbers of a layer that belongs to this ``MPLinearKernel``."""
    kind = kernel.config.weight_type
    weights = getattr(layer, kernel.w_q_name)
    packed = weights.data if weights.input_dim == 0 else weights.data.t()
    codes = _integers(packed, kind, 0)  # (inputs, outputs)
    zeros: torch.Tensor | float = float(kind.bias)
    if kernel.config.zero_points:
        stored = getattr(layer, str(kernel.w_zp_name))
        by_group = stored.data.t() if stored.output_dim == 0 else stored.data
        zeros = _integers(by_group, kind, 1).t().contiguous().float()  # (outputs, groups)
    scales = getattr(layer, kernel.w_s_name)
    by_output = scales.data if scales.output_dim == 0 else scales.data.t()
    return Unpacked(codes.t().contiguous(), by_output.contiguous().float(), zeros)


def _integers(packed: torch.Tensor, kind: Any, axis: int) -> torch.Tensor:
    found: torch.Tensor = unpack_quantized_values_into_int32(packed.contiguous(), kind, axis)
    return found
