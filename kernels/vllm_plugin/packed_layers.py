"""Layers of a vLLM engine that load dense weights and compute with packed ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.vocab_parallel_embedding import (
    UnquantizedEmbeddingMethod,
    VocabParallelEmbedding,
)

from ... import kernels
from ..quantized import Q4Weight, Q8Weight, Weight, quantize_q4, quantize_q8, regain_q4
from .packed_operators import define

GROUP = 32
"""Inputs that share a scale, as in the blocks of GGUF."""

_ROWS_AT_ONCE = 4096  # of a vocabulary, whose float32 copy would not fit beside it
_READ_DENSE = ("kv_b_proj",)  # MLA folds this layer's weight into its attention


def method_of(layer: Any, prefix: str, bits: int) -> QuantizeMethodBase | None:
    """Return how a layer computes; as ``PackedConfig.get_quant_method``."""
    define()
    if isinstance(layer, VocabParallelEmbedding):
        whole = layer.embedding_dim % GROUP == 0
        return PackedEmbeddingMethod() if whole else UnquantizedEmbeddingMethod()
    if not isinstance(layer, LinearBase):
        return None
    inputs = getattr(layer, "input_size_per_partition", layer.input_size)
    if inputs % GROUP or prefix.rpartition(".")[2] in _READ_DENSE:
        return UnquantizedLinearMethod()
    return PackedLinearMethod(bits)


class PackedLinearMethod(UnquantizedLinearMethod):  # type: ignore[misc]
    """A linear layer that loads a dense weight and keeps a packed one."""

    supports_pre_processed_weights = False

    def __init__(self, bits: int) -> None:
        """Keep how many bits a weight gets at most: 4 or 8."""
        super().__init__()
        self._bits = bits

    def process_weights_after_loading(self, layer: Any) -> None:
        """Pack the weight and let the dense one go."""
        _keep(layer, _packed(layer.weight.data, self._bits))
        del layer.weight

    def apply(self, layer: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Return x times the layer's weights, plus bias; x: (..., inputs)."""
        return _multiplied(layer, x, bias)


class PackedEmbeddingMethod(UnquantizedEmbeddingMethod):  # type: ignore[misc]
    """The vocabulary's rows, looked up and multiplied in packed form."""

    supports_pre_processed_weights = False

    def process_weights_after_loading(self, layer: Any) -> None:
        """Pack the rows; a head that is tied to an embedding which stays dense packs a copy."""
        _keep(layer, _packed_in_8(layer.weight.data))
        del layer.weight

    def apply(self, layer: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Return the logits of hidden states (tokens, inputs)."""
        return _multiplied(layer, x, bias)

    def embedding(self, layer: Any, input_: torch.Tensor) -> torch.Tensor:
        """Return the rows (..., inputs) of token ids, in the model's format."""
        ids = input_.reshape(-1)
        block, lane = ids // 16, ids % 16
        blocks, loads, _ = layer.codes.shape
        codes = layer.codes.view(blocks, loads, 16, 4)[block, :, lane].reshape(len(ids), -1, GROUP)
        scales = layer.scales[block, :, lane].unsqueeze(-1)
        offsets = layer.offsets[block, :, lane].unsqueeze(-1)
        rows = codes.float().mul_(scales).sub_(offsets)
        found: torch.Tensor = rows.view(*input_.shape, -1).to(layer.packed_dtype)
        return found

    def tie_weights(self, layer: Any, embed_tokens: Any) -> Any:
        """Let the head be the embedding, so that the rows are kept once."""
        if isinstance(embed_tokens.quant_method, PackedEmbeddingMethod):
            return embed_tokens
        layer.weight = embed_tokens.weight
        return layer


def linear_of(layer: Any) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """Return what writes a packed layer's product of rows x (rows, inputs) into another tensor."""
    kind: Any = Q4Weight if layer.packed_bits == 4 else Q8Weight
    parts = (layer.codes.data, layer.scales.data, layer.offsets.data)
    weight = kind(*parts, layer.packed_outputs, GROUP)
    kernel = getattr(kernels, f"q{layer.packed_bits}_linear")
    bias = None if layer.bias is None else layer.bias.data.float()

    def linear(x: torch.Tensor, out: torch.Tensor) -> None:
        kernel(x, weight, bias, out)

    return linear


def _packed(weight: torch.Tensor, bits: int) -> Q4Weight | Q8Weight:
    """Pack a dense weight (outputs, inputs) in 4 bits or, if 8 are allowed and needed, in those."""
    if bits == 4:
        return _joined([quantize_q4(rows, GROUP) for rows in _some_at_a_time(weight)])
    return _held_in_4_bits(weight) or _packed_in_8(weight)


def _packed_in_8(weight: torch.Tensor) -> Q8Weight:
    return _joined([quantize_q8(rows, GROUP) for rows in _some_at_a_time(weight)])


def _held_in_4_bits(weight: torch.Tensor) -> Q4Weight | None:
    sample = weight[:: max(1, len(weight) // 64)]  # tells of nearly all that they are not
    parts: list[Q4Weight] = []
    for tried in (sample, weight):
        parts.clear()
        for rows in _some_at_a_time(tried):
            packed = regain_q4(rows, GROUP)
            if packed is None:
                return None
            parts.append(packed)
    return _joined(parts)


def _some_at_a_time(weight: torch.Tensor) -> Iterator[np.ndarray]:
    for rows in torch.split(weight, _ROWS_AT_ONCE):
        yield rows.float().numpy()


def _joined(parts: list[Weight]) -> Weight:
    """Join rows; all parts but the last have a multiple of 16 of them."""
    if len(parts) == 1:
        return parts[0]
    codes, scales, offsets = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("codes", "scales", "offsets")
    )
    outputs = sum(part.outputs for part in parts)
    return type(parts[0])(codes, scales, offsets, outputs, GROUP)


def _keep(layer: Any, weight: Q4Weight | Q8Weight) -> None:
    layer.packed_dtype, layer.packed_outputs = layer.weight.dtype, weight.outputs
    layer.packed_bits = weight.bits
    for name in ("codes", "scales", "offsets"):
        kept = torch.nn.Parameter(torch.from_numpy(getattr(weight, name)), requires_grad=False)
        layer.register_parameter(name, kept)


def _multiplied(layer: Any, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    rows = x.reshape(-1, x.shape[-1])
    operator = getattr(torch.ops.livemind, f"q{layer.packed_bits}_linear")
    product: torch.Tensor = operator(
        rows, layer.codes, layer.scales, layer.offsets, bias, layer.packed_outputs, GROUP
    )
    shaped: torch.Tensor = product.view(*x.shape[:-1], layer.packed_outputs)
    return shaped
