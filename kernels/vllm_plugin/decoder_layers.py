"""Decoder layers with packed weights, computed by our kernels one after the other.

A layer of vLLM's in eager mode passes some forty functions of Python and torch, which for one token
of a small model take longer than its products do. The layers of Llama's kind (norm, attention,
norm, gated feed-forward) that vLLM builds of separate modules are one function here. Attention, its
KV cache and rotary positions stay vLLM's operators. Layers that are anything else are left alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from vllm.distributed.kv_transfer import has_kv_transfer_group
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import (
    MergedColumnParallelLinear,
    QKVParallelLinear,
    RowParallelLinear,
)
from vllm.model_executor.models import llama, mistral, qwen2

from ... import kernels
from .decoder_attention import AttentionBuffers, DecoderAttention
from .hooks import attribute, say_once
from .packed_layers import PackedLinearMethod, linear_of

KINDS = (
    (llama.LlamaDecoderLayer, llama.LlamaAttention, llama.LlamaMLP),
    (mistral.MistralDecoderLayer, mistral.MistralAttention, llama.LlamaMLP),
    (qwen2.Qwen2DecoderLayer, qwen2.Qwen2Attention, qwen2.Qwen2MLP),
)
"""Layers that compute as ``PackedDecoderLayer`` does, with the modules they are built of."""

_MORE = {mistral.MistralDecoderLayer: ("t_cond",)}  # parameters; what they ask for is vLLM's
_TYPES = (torch.float32, torch.bfloat16, torch.float16)
_KEPT_AS = "livemind_packed"


def install() -> None:
    """Let the layers of ``KINDS`` whose weights are packed compute here.

    Raises:
        Different: this vLLM's layers take other arguments.
    """
    for kind, _, _ in KINDS:
        known = ["self", "positions", "hidden_states", "residual", *_MORE.get(kind, ())]
        kind.forward = _forward(attribute(kind, "forward", known))


def _forward(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def forward(self: Any, positions: Tensor, hidden_states: Tensor, residual: Any, *more: Any,
                **named: Any) -> Any:  # fmt: skip
        asked = any(each is not None for each in (*more, *named.values()))
        if asked or torch.compiler.is_compiling() or has_kv_transfer_group():
            return original(self, positions, hidden_states, residual, *more, **named)
        packed = self.__dict__.get(_KEPT_AS, False)
        if packed is False:  # not looked at yet
            packed = self.__dict__[_KEPT_AS] = _looked_at(self)
        if packed is None:
            return original(self, positions, hidden_states, residual, *more, **named)
        return packed(positions, hidden_states, residual)

    return forward


def _looked_at(layer: Any) -> PackedDecoderLayer | None:
    try:
        return PackedDecoderLayer.of(layer)
    except Exception as error:
        say_once("decoder_layer", error)
        return None


class PackedDecoderLayer:
    """A decoder layer of vLLM's, computed by our kernels; see the module.

    For one thread; the modules stay the owners of the weights.
    """

    def __init__(self, layer: Any) -> None:
        """Take what is needed of a layer that ``of`` has looked at."""
        attention, mlp = layer.self_attn, layer.mlp
        self._norms = [
            (norm.weight.data, norm.variance_epsilon)
            for norm in (layer.input_layernorm, layer.post_attention_layernorm)
        ]
        self._qkv, self._output = linear_of(attention.qkv_proj), linear_of(attention.o_proj)
        self._gate_up, self._down = linear_of(mlp.gate_up_proj), linear_of(mlp.down_proj)
        self._attend = DecoderAttention(attention)
        self._inner = mlp.down_proj.input_size

    @classmethod
    def of(cls, layer: Any) -> PackedDecoderLayer | None:
        """Return how a layer computes here; None for one that has to compute as vLLM does."""
        return cls(layer) if _is_packed(layer) and _is_plain(layer) else None

    def __call__(
        self, positions: Tensor, hidden: Tensor, residual: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return what the layer adds to the residual (tokens, size), and the residual.

        Both are written where they were, unless there is no residual yet.
        """
        (weight, epsilon), (weight_after, epsilon_after) = self._norms
        rows, dtype = hidden.shape[0], hidden.dtype
        buffers = AttentionBuffers.of(rows, self._attend.heads, dtype)
        if residual is None:
            residual, hidden = hidden, torch.empty_like(hidden)
            kernels.rms_norm(residual, weight, epsilon, hidden)
        else:
            kernels.fused_add_rms_norm(hidden, residual, weight, epsilon)
        self._qkv(hidden, buffers.qkv)
        self._attend(positions, buffers)
        self._output(buffers.attended, hidden)
        kernels.fused_add_rms_norm(hidden, residual, weight_after, epsilon_after)
        gate_up = torch.empty(rows, 2 * self._inner, dtype=dtype)
        inner = torch.empty(rows, self._inner, dtype=dtype)
        self._gate_up(hidden, gate_up)
        kernels.swiglu(gate_up, inner)
        self._down(inner, hidden)
        return hidden, residual


def _is_packed(layer: Any) -> bool:
    """Whether a layer's four products have weights of ours, and its norms are of their format."""
    products = (
        (layer.self_attn, "qkv_proj", QKVParallelLinear),
        (layer.self_attn, "o_proj", RowParallelLinear),
        (layer.mlp, "gate_up_proj", MergedColumnParallelLinear),
        (layer.mlp, "down_proj", RowParallelLinear),
    )
    formats = set()
    for owner, name, kind in products:
        module: Any = getattr(owner, name, None)
        if type(module) is not kind or not isinstance(module.quant_method, PackedLinearMethod):
            return False
        if module.tp_size != 1:
            return False
        formats.add(module.packed_dtype)
    for norm in (layer.input_layernorm, layer.post_attention_layernorm):
        if type(norm) is not RMSNorm or not norm.has_weight or norm.variance_size_override:
            return False
        formats.add(norm.weight.dtype)
    return len(formats) == 1 and formats <= set(_TYPES)


def _is_plain(layer: Any) -> bool:
    """Whether a layer does nothing that some of its kind do besides."""
    if (type(layer), type(layer.self_attn), type(layer.mlp)) not in KINDS:
        return False
    attention = layer.self_attn
    extras = (
        getattr(layer, "ada_rms_norm_t_cond", None),
        getattr(attention, "do_llama_4_scaling", False),
        getattr(attention, "qk_norm", False),
        getattr(attention, "dual_chunk_attention_config", None),
    )
    return (
        DecoderAttention.is_plain(attention)
        and type(layer.mlp.act_fn) is SiluAndMul
        and not any(extras)
    )
