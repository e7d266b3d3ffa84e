"""vLLM's attention of a decoder layer, asked for directly: same operators, same arguments.

vLLM leads to its two operators through modules, torch's dispatch and new views of the whole KV
cache, at each layer of each step. Views of small steps and of the cache are kept here instead.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from vllm import _custom_ops as ops
from vllm.model_executor.layers.attention.attention import Attention, get_attention_context
from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding
from vllm.v1.attention.backend import AttentionType
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl

_FEW_ROWS = 64  # whose buffers are kept


@dataclass(frozen=True, slots=True)
class Heads:
    """How many heads a layer has of queries and of keys and values, and their size."""

    queries: int
    keys: int
    size: int


class AttentionBuffers:
    """Where a step's queries, keys and values are written, and what attention makes of them.

    Attributes:
        qkv: (tokens, elements of all three).
        attended: (tokens, elements of the queries).
    """

    def __init__(self, rows: int, heads: Heads, dtype: torch.dtype) -> None:
        """Allocate for so many tokens."""
        widths = [count * heads.size for count in (heads.queries, heads.keys, heads.keys)]
        self.qkv = torch.empty(rows, sum(widths), dtype=dtype)
        self.attended = torch.empty(rows, widths[0], dtype=dtype)
        self.query, self.key, value = self.qkv.split_with_sizes(widths, dim=-1)
        self.query_heads = self.query.view(rows, heads.queries, heads.size)
        self.key_heads = self.key.view(rows, heads.keys, heads.size)
        self.value_heads = value.view(rows, heads.keys, heads.size)
        self.attended_heads = self.attended.view(rows, heads.queries, heads.size)

    @classmethod
    def of(cls, rows: int, heads: Heads, dtype: torch.dtype) -> AttentionBuffers:
        """Return buffers; for few tokens those that all layers of a thread share."""
        if rows > _FEW_ROWS:
            return cls(rows, heads, dtype)
        return _kept(rows, heads, dtype, threading.get_ident())


@functools.lru_cache(maxsize=8)
def _kept(rows: int, heads: Heads, dtype: torch.dtype, thread: int) -> AttentionBuffers:
    return AttentionBuffers(rows, heads, dtype)


class DecoderAttention:
    """Rotary positions and causal attention of one layer; for one thread."""

    def __init__(self, module: Any) -> None:
        """Take what is needed of a layer's ``self_attn`` for which ``is_plain`` holds."""
        self.heads = Heads(module.num_heads, module.num_kv_heads, module.head_dim)
        self._attention, self._rotary = module.attn, module.rotary_emb
        self._kv_cache: Tensor | None = None
        self._halves: tuple[Tensor, ...] = ()

    @staticmethod
    def is_plain(module: Any) -> bool:
        """Whether these operators are all that vLLM would compute."""
        attention = module.attn
        turns = getattr(module.rotary_emb, "_forward_method", None)  # some are no operators
        return (
            type(attention) is Attention
            and type(attention.impl) is CPUAttentionBackendImpl
            and attention.impl.attn_type == AttentionType.DECODER
            and attention.impl.sinks is None
            and attention.query_quant is None
            and attention.kv_sharing_target_layer_name is None
            and getattr(turns, "__func__", None) is RotaryEmbedding.forward_cpu
        )

    def __call__(self, positions: Tensor, buffers: AttentionBuffers) -> None:
        """Turn queries and keys, write keys and values to the cache, attend.

        Args:
            positions: int64 (tokens,).
            buffers: with ``qkv`` filled; ``attended`` is written.
        """
        query, rotary = buffers.query, self._rotary
        table = rotary._match_cos_sin_cache_dtype(query)
        ops.rotary_embedding(
            positions, query, buffers.key, self.heads.size, table, rotary.is_neox_style
        )
        metadata, layer, kv_cache, slots = get_attention_context(self._attention.layer_name)
        if metadata is None:  # vLLM only wants to see how much memory a step needs
            return
        keys, values = self._split(kv_cache)
        impl = layer.impl
        scales = {"k_scale": layer._k_scale_float, "v_scale": layer._v_scale_float}
        stored_as = impl.kv_cache_dtype
        if slots is not None:
            ops.cpu_attn_reshape_and_cache(
                buffers.key_heads, buffers.value_heads, keys, values, slots, layer.isa,
                kv_cache_dtype=stored_as, **scales,
            )  # fmt: skip
        count = metadata.num_actual_tokens
        ops.cpu_attention_with_kv_cache(
            query=buffers.query_heads[:count],
            key_cache=keys,
            value_cache=values,
            output=buffers.attended_heads[:count],
            query_start_loc=metadata.query_start_loc,
            seq_lens=metadata.seq_lens,
            scale=impl.scale,
            causal=metadata.causal,
            alibi_slopes=impl.alibi_slopes,
            sliding_window=impl.sliding_window,
            block_table=metadata.block_table,
            softcap=impl.logits_soft_cap,
            scheduler_metadata=metadata.scheduler_metadata,
            s_aux=None,
            dynamic_causal=metadata.dynamic_causal,
            kv_cache_dtype=stored_as,
            **scales,
        )

    def _split(self, kv_cache: Tensor) -> tuple[Tensor, ...]:
        """Return keys and values of (blocks, heads, tokens, 2 * size) as vLLM's operators do."""
        if kv_cache is not self._kv_cache:
            blocks, heads, tokens, _ = kv_cache.size()
            self._halves = kv_cache.view((blocks, heads, tokens * 2, -1)).chunk(2, dim=2)
            self._kv_cache = kv_cache
        return self._halves
