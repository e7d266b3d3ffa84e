"""Linear layers with AWQ or GPTQ weights: 4-bit weights, activations rounded to 8 bits."""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.kernels.linear import mixed_precision
from vllm.scalar_type import scalar_types

from ..quantized import Q4Weight, pack_q4
from .dense_linear import DenseLinearKernel, vllm_has_operator
from .hooks import Different, say_once
from .packed_layer import unpacked
from .packed_operators import define

_TYPES = (torch.bfloat16, torch.float16, torch.float32)
_LARGEST_GROUP = 65536


class LiveMindQ4LinearKernel(mixed_precision.MPLinearKernel):  # type: ignore[misc]
    """vLLM's interface for such layers over ``kernels.q4_linear``."""

    w_zp_name: str | None
    _instead: Any = None
    _outputs: int
    _group: int

    @classmethod
    def get_min_capability(cls) -> int:
        """Return -1: there is no such thing on a CPU."""
        return -1

    @classmethod
    def can_implement(cls, c: Any) -> tuple[bool, str | None]:
        """Say whether a layer of this form can be done, and why not."""
        inputs, outputs = c.partition_weight_shape
        group = inputs if c.group_size == -1 else c.group_size
        if c.weight_type not in (scalar_types.uint4, scalar_types.uint4b8):
            return False, f"weights are {c.weight_type}, not uint4 or uint4b8"
        if c.zero_points != (c.weight_type == scalar_types.uint4):
            return False, f"zero points do not go with {c.weight_type}"
        if c.act_type not in _TYPES:
            return False, f"activations are {c.act_type}"
        if group % 8 or inputs % group or group > _LARGEST_GROUP or outputs % 8:
            return False, f"no whole groups of {group} in {inputs} x {outputs}"
        if torch.cpu._is_amx_tile_supported():
            return False, "this processor has AMX, for which vLLM has a kernel"
        return True, None

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Repack the weights, which vLLM has brought into the form of GPTQ."""
        try:
            weight = self._packed(layer)
        except Exception as error:
            say_once("q4_linear", error)
            names = (self.w_q_name, self.w_s_name, self.w_zp_name)
            other = (
                mixed_precision.CPUWNA16LinearKernel if vllm_has_operator() else DenseLinearKernel
            )
            self._instead = other(self.config, *names)
            self._instead.process_weights_after_loading(layer)
            return
        self.w_zp_name = self.w_zp_name or "livemind_offsets"
        self._outputs, self._group = weight.outputs, weight.group
        for name, part in (
            (self.w_q_name, weight.codes),
            (self.w_s_name, weight.scales),
            (self.w_zp_name, weight.offsets),
        ):
            if hasattr(layer, name):
                delattr(layer, name)
            kept = torch.nn.Parameter(torch.from_numpy(part), requires_grad=False)
            layer.register_parameter(name, kept)

    def apply_weights(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return x times the layer's weights, plus bias."""
        if self._instead is not None:
            return self._instead.apply_weights(layer, x, bias)  # type: ignore[no-any-return]
        rows = x.reshape(-1, x.shape[-1])
        codes, scales, offsets = self._get_weight_params(layer)
        product = torch.ops.livemind.q4_linear(
            rows, codes, scales, offsets, bias, self._outputs, self._group
        )
        result: torch.Tensor = product.view(*x.shape[:-1], self._outputs)
        return result

    def _packed(self, layer: torch.nn.Module) -> Q4Weight:
        parts = unpacked(self, layer)
        zeros = parts.zeros.numpy() if isinstance(parts.zeros, torch.Tensor) else parts.zeros
        return pack_q4(parts.codes.to(torch.uint8).numpy(), parts.scales.numpy(), zeros)


def install() -> None:
    """Put our kernel before vLLM's in its list for CPUs, and the dense one behind ours.

    Raises:
        Different: this vLLM does it in another way.
    """
    from vllm.model_executor.kernels import linear
    from vllm.platforms import PlatformEnum

    known = getattr(linear, "_POSSIBLE_KERNELS", {}).get(PlatformEnum.CPU)
    if not isinstance(known, list):
        raise Different("its list of kernels for CPUs is elsewhere")
    define()
    known[:0] = [LiveMindQ4LinearKernel, DenseLinearKernel]
