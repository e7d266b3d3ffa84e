"""``quantization: "q4"`` and ``"q8"`` of a vLLM engine: dense weights, packed when they are loaded.

Two methods of vLLM's own registry. Linear layers get weights of 4 or 8 bits, the embedding of the
vocabulary and the head that shares it 8 bits in both; activations are rounded to 8 bits per group.
What cannot be packed stays dense: see ``PackedConfig.get_quant_method``. Imported by every process
that reads an engine's settings; how a layer computes is in ``packed_layers``, for those that do.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from vllm.model_executor.layers.quantization import register_quantization_config
from vllm.model_executor.layers.quantization.base_config import (
    QuantizationConfig,
    QuantizeMethodBase,
)

from .hooks import require_known_vllm

_TYPES = [torch.float32, torch.bfloat16, torch.float16]


class PackedConfig(QuantizationConfig):  # type: ignore[misc]
    """vLLM's description of a model whose dense weights are packed at load; see the module."""

    bits: ClassVar[int]

    def get_name(self) -> str:
        """Return the name by which users ask for it."""
        return f"q{self.bits}"

    def get_supported_act_dtypes(self) -> list[torch.dtype]:
        """Return the formats that the kernels compute in."""
        return _TYPES

    @classmethod
    def get_min_capability(cls) -> int:
        """Return -1: there is no such thing on a CPU."""
        return -1

    @staticmethod
    def get_config_filenames() -> list[str]:
        """Return none: nothing is stored with the model."""
        return []

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PackedConfig:
        """Refuse weights that are stored in another form.

        Raises:
            ValueError: always; vLLM asks only if the model has a quantization of its own.
        """
        method = config.get("quant_method")
        raise ValueError(f"the weights are quantized already ({method}): they cannot be packed")

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        """Return how this layer computes; None for one that vLLM does by itself.

        Dense stay layers without whole groups of 32 inputs, those whose weight is read elsewhere,
        and experts of a mixture.
        """
        from .packed_layers import method_of

        return method_of(layer, prefix, self.bits)


class Q4Config(PackedConfig):
    """``quantization: "q4"``."""

    bits = 4


class Q8Config(PackedConfig):
    """``quantization: "q8"``."""

    bits = 8


def install() -> None:
    """Register both methods, in every process that reads an engine's settings or computes.

    Raises:
        Different: they cannot be had, see ``require_known_vllm``.
    """
    require_known_vllm()
    for config in (Q4Config, Q8Config):
        register_quantization_config(f"q{config.bits}")(config)
