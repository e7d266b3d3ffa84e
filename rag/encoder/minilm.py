"""The arithmetic of MiniLM-L6 (a BERT encoder, mean pooling).

One model, forward only: loading it through transformers costs three seconds of imports and
200 MB that a server pays at every start, for the same numbers (a test compares them).

A short text costs the time to read the weights, so that their width counts. On x86 processors with
AVX2 or more the layers are those of ``livemind.kernels``: matrices in bfloat16, everything else in
float32 but for the activations that an instruction for bfloat16 multiplies. The vector differs by
less than 0.0001 in the cosine. Elsewhere torch computes in float32. docs/routing.md has the
comparison with int8 and others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
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

LAYERS = 6
HEADS = 12
DIM = 384
MIDDLE = 4
"""The layer whose mean is returned beside the sentence vector, counted from one."""
EPS = 1e-12
KERNEL_TIERS = frozenset({"avx2", "avx512", "avx512_dl"})
"""Tiers on which the kernels' layer is used: faster than torch on avx2 and avx512_dl. avx512 has
avx2's code in wider registers, untimed; the tiers for Arm are untimed too and left to torch."""
PARTS = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention_out": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
    "output_norm": ("output.LayerNorm",),
}


@dataclass(frozen=True, slots=True)
class Encoder:
    """Token ids to unit sentence vectors."""

    words: FloatArray
    positions: FloatArray
    norm: Affine
    layers: tuple[Layer, ...]

    @classmethod
    def load(cls, folder: Path, *, narrow: bool) -> Encoder:
        """Read ``model.safetensors``, matrices as packed bfloat16 if ``narrow``.

        Raises ImportError, OSError, KeyError (no such tensor).
        """
        from safetensors.numpy import load_file

        weights = load_file(folder / "model.safetensors")
        segment = weights["embeddings.token_type_embeddings.weight"][0]
        make = _packed if narrow else _plain
        return cls(
            words=weights["embeddings.word_embeddings.weight"],
            positions=weights["embeddings.position_embeddings.weight"] + segment,
            norm=_affine(weights, "embeddings.LayerNorm"),
            layers=tuple(
                make({part: _joined(weights, number, names) for part, names in PARTS.items()})
                for number in range(LAYERS)
            ),
        )

    def __call__(self, tokens: Sequence[Sequence[int]]) -> FloatArray:
        """Return float32 (len(tokens), 2 * DIM); no text is empty.

        Each row is two unit vectors: the sentence vector, and the mean over the tokens after layer
        MIDDLE, which still tells words apart that mean the same.
        """
        lengths = np.array([len(row) for row in tokens], np.int64)
        starts = np.cumsum(lengths) - lengths
        ids = np.concatenate([np.asarray(row, np.int64) for row in tokens])
        at = np.arange(len(ids)) - np.repeat(starts, lengths)
        x = _normed(self.words[ids] + self.positions[at], self.norm)
        means: list[FloatArray] = []
        for number, layer in enumerate(self.layers, 1):
            layer(x, lengths)
            if number in (MIDDLE, LAYERS):
                sums = np.add.reduceat(x, starts, axis=0)
                means.append(sums / np.linalg.norm(sums, axis=1, keepdims=True))
        return np.concatenate(means[::-1], 1)


def uses_kernels() -> bool:
    """Return whether the kernels' layer computes on this processor, and not torch."""
    return kernels.isa() in KERNEL_TIERS and hasattr(kernels, "encoder_layer")


def _packed(parts: dict[str, Affine]) -> Layer:
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


def _plain(parts: dict[str, Affine]) -> Layer:
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


def _joined(weights: dict[str, FloatArray], layer: int, names: Sequence[str]) -> Affine:
    """Return maps from the same input as one."""
    found = [_affine(weights, f"encoder.layer.{layer}.{name}") for name in names]
    return np.concatenate([w for w, _ in found]), np.concatenate([b for _, b in found])


def _affine(weights: dict[str, FloatArray], name: str) -> Affine:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]
