"""The arithmetic of BERT encoders of 384 dimensions with mean pooling: MiniLM-L6, E5-small.

Forward only: loading one through transformers costs three seconds of imports and 200 MB that a
server pays at every start, for the same numbers (a test compares them).

A short text costs the time to read the weights, so that their width counts. On x86 processors with
AVX2 or more the layers are those of ``livemind.kernels``: matrices in bfloat16, everything else in
float32 but for the activations that an instruction for bfloat16 multiplies. The vector differs by
less than 0.0001 in the cosine. Elsewhere torch computes in float32. docs/routing.md has the
comparison with int8 and others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ... import kernels
from ..base import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

IntArray = npt.NDArray[np.int64]
Affine = tuple[FloatArray, FloatArray]
Layer = Callable[[FloatArray, IntArray], None]
"""Changes float32 (tokens, DIM) in place; int64 (texts,) tells how many tokens each text has."""
WordRows = Callable[[IntArray], FloatArray]
"""Returns float32 (ids, DIM), a new array: the embeddings of these words."""

HEADS = 12
DIM = 384
EPS = 1e-12
BATCH_TOKENS = 512  # more at a time are no faster
KERNEL_TIERS = frozenset({"avx2", "avx512", "avx512_dl"})
"""Tiers on which the kernels' layer is used: faster than torch on avx2 and avx512_dl. avx512 has
avx2's code in wider registers, untimed; the tiers for Arm are untimed too and left to torch."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """Token ids to unit sentence vectors.

    Attributes:
        words: looks up embeddings.
        positions: float32 (positions, DIM), with the segment's vector added.
        norm: weight and bias of the layer norm behind both.
        layers: of ``make_layer``.
        middle: the layer whose mean is returned beside the sentence vector, counted from one.
    """

    words: WordRows
    positions: FloatArray
    norm: Affine
    layers: tuple[Layer, ...]
    middle: int

    def __call__(self, tokens: Sequence[Sequence[int]]) -> FloatArray:
        """Return float32 (len(tokens), 2 * DIM); no text is empty.

        Each row is two unit vectors: the sentence vector, and the mean over the tokens after the
        middle layer, which still tells words apart that mean the same. Batches texts of like
        length; a text's vector depends on the others by rounding only.
        """
        vectors = np.empty((len(tokens), 2 * DIM), np.float32)
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        while order:
            count = 1
            while count < len(order) and (count + 1) * len(tokens[order[count]]) <= BATCH_TOKENS:
                count += 1
            batch, order = order[:count], order[count:]
            vectors[batch] = self._batch([tokens[i] for i in batch])
        return vectors

    def _batch(self, tokens: Sequence[Sequence[int]]) -> FloatArray:
        lengths = np.array([len(row) for row in tokens], np.int64)
        starts = np.cumsum(lengths) - lengths
        ids = np.concatenate([np.asarray(row, np.int64) for row in tokens])
        at = np.arange(len(ids)) - np.repeat(starts, lengths)
        x = _normed(self.words(ids) + self.positions[at], self.norm)
        means: list[FloatArray] = []
        for number, layer in enumerate(self.layers, 1):
            layer(x, lengths)
            if number in (self.middle, len(self.layers)):
                sums = np.add.reduceat(x, starts, axis=0)
                means.append(sums / np.linalg.norm(sums, axis=1, keepdims=True))
        return np.concatenate(means[::-1], 1)


def uses_kernels() -> bool:
    """Return whether the kernels' layer computes on this processor, and not torch."""
    return kernels.isa() in KERNEL_TIERS and hasattr(kernels, "encoder_layer")


def make_layer(parts: Mapping[str, Affine], *, narrow: bool) -> Layer:
    """Return a layer.

    Args:
        parts: ``qkv`` (query, key and value as one map), ``attention_out``, ``attention_norm``,
            ``up``, ``down``, ``output_norm``: each its weight and bias.
        narrow: matrices in bfloat16, by the kernels; else float32, by torch.

    Raises:
        ImportError: torch is needed and not there.
    """
    return _packed(parts) if narrow else _plain(parts)


def _packed(parts: Mapping[str, Affine]) -> Layer:
    """Return a layer whose matrices are bfloat16."""
    matrices = ("qkv", "attention_out", "up", "down")
    packed = {name: kernels.pack_columns(parts[name][0]) for name in matrices}
    layer = kernels.EncoderLayer(
        **packed,
        qkv_bias=parts["qkv"][1],
        attention_bias=parts["attention_out"][1],
        up_bias=parts["up"][1],
        down_bias=parts["down"][1],
        attention_norm=np.stack(parts["attention_norm"]),
        output_norm=np.stack(parts["output_norm"]),
        heads=HEADS,
        epsilon=EPS,
    )
    return lambda x, lengths: kernels.encoder_layer(x, layer, lengths)


def _plain(parts: Mapping[str, Affine]) -> Layer:
    """Return a layer in float32 throughout, on one thread of torch."""
    import torch
    from torch.nn import functional as f

    torch.set_num_threads(1)
    wide = {
        name: (torch.from_numpy(weight), torch.from_numpy(bias))
        for name, (weight, bias) in parts.items()
    }

    def attended(qkv: Tensor) -> Tensor:
        query, key, value = qkv.view(1, len(qkv), 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)
        found = f.scaled_dot_product_attention(query, key, value)
        return found.transpose(1, 2).reshape(len(qkv), DIM)

    def layer(rows: FloatArray, lengths: IntArray) -> None:
        with torch.inference_mode():
            x = torch.from_numpy(rows)
            texts = torch.split(f.linear(x, *wide["qkv"]), lengths.tolist())
            seen = torch.cat([attended(text) for text in texts])
            x = f.layer_norm(
                x + f.linear(seen, *wide["attention_out"]), (DIM,), *wide["attention_norm"], EPS
            )
            inner = f.gelu(f.linear(x, *wide["up"]))
            x = f.layer_norm(x + f.linear(inner, *wide["down"]), (DIM,), *wide["output_norm"], EPS)
            rows[...] = x.numpy()

    return layer


def _normed(x: FloatArray, norm: Affine) -> FloatArray:
    x -= x.mean(1, keepdims=True)
    x /= np.sqrt(np.einsum("ij,ij->i", x, x)[:, None] / np.float32(DIM) + np.float32(EPS))
    x *= norm[0]
    x += norm[1]
    return x
