"""The arithmetic of MiniLM-L6 (a BERT encoder, mean pooling) straight on torch.

One model, forward only: loading it through transformers costs three seconds of imports and
200 MB that a server pays at every start, for the same numbers (a test compares them).

A short text costs the time to read 42 MB of weights, so that their width is what counts: in
bfloat16 a text takes half as long as in float32 and its vector differs by 0.00001 in the cosine.
Sums, norms and attention stay in float32. docs/routing.md has the comparison with int8 and others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .base import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    Affine = tuple[Tensor, Tensor]

LAYERS = 6
HEADS = 12
HEAD_DIM = 32
DIM = HEADS * HEAD_DIM
EPS = 1e-12


@dataclass(frozen=True, slots=True)
class Layer:
    """One transformer layer: weight and bias of each linear map and norm."""

    qkv: Affine
    attention_out: Affine
    attention_norm: Affine
    up: Affine
    down: Affine
    output_norm: Affine

    @classmethod
    def of(cls, weights: dict[str, Tensor], prefix: str, narrow: bool) -> Layer:
        """Pick a layer's tensors; query, key and value become one matrix."""
        import torch

        def cut(affine: Affine) -> Affine:
            return (affine[0].bfloat16(), affine[1].bfloat16()) if narrow else affine

        parts = [_affine(weights, f"{prefix}attention.self.{n}") for n in ("query", "key", "value")]
        return cls(
            qkv=cut((torch.cat([w for w, _ in parts]), torch.cat([b for _, b in parts]))),
            attention_out=cut(_affine(weights, f"{prefix}attention.output.dense")),
            attention_norm=_affine(weights, f"{prefix}attention.output.LayerNorm"),
            up=cut(_affine(weights, f"{prefix}intermediate.dense")),
            down=cut(_affine(weights, f"{prefix}output.dense")),
            output_norm=_affine(weights, f"{prefix}output.LayerNorm"),
        )

    def __call__(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Apply the layer to (batch, tokens, DIM); ``mask`` is True where a token may be seen."""
        from torch.nn import functional as f

        batch, tokens, _ = x.shape
        heads = _linear(x, self.qkv).view(batch, tokens, 3, HEADS, HEAD_DIM)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        seen = f.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        seen = seen.transpose(1, 2).reshape(batch, tokens, DIM)
        x = f.layer_norm(x + _linear(seen, self.attention_out), (DIM,), *self.attention_norm, EPS)
        inner = f.gelu(_linear(x, self.up))
        return f.layer_norm(x + _linear(inner, self.down), (DIM,), *self.output_norm, EPS)


@dataclass(frozen=True, slots=True)
class Encoder:
    """Token ids to unit sentence vectors."""

    words: Tensor
    positions: Tensor
    norm: Affine
    layers: tuple[Layer, ...]

    @classmethod
    def load(cls, folder: Path, *, narrow: bool) -> Encoder:
        """Read ``model.safetensors``, matrices as bfloat16 if ``narrow``.

        Raises ImportError, OSError, KeyError (no such tensor).
        """
        from safetensors.torch import load_file

        weights = load_file(folder / "model.safetensors")
        segment = weights["embeddings.token_type_embeddings.weight"][0]
        return cls(
            words=weights["embeddings.word_embeddings.weight"],
            positions=weights["embeddings.position_embeddings.weight"] + segment,
            norm=_affine(weights, "embeddings.LayerNorm"),
            layers=tuple(Layer.of(weights, f"encoder.layer.{i}.", narrow) for i in range(LAYERS)),
        )

    def __call__(self, tokens: Sequence[Sequence[int]]) -> FloatArray:
        """Return float32 (len(tokens), DIM), unit rows. Shorter inputs are padded and masked."""
        import torch
        from torch.nn import functional as f

        longest = max(len(row) for row in tokens)
        with torch.inference_mode():
            ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in tokens])
            lengths = torch.tensor([[len(row)] for row in tokens])
            real = torch.arange(longest) < lengths
            mask = None if bool(real.all()) else real[:, None, None, :]
            x = f.layer_norm(self.words[ids] + self.positions[:longest], (DIM,), *self.norm, EPS)
            for layer in self.layers:
                x = layer(x, mask)
            mean = (x * real.unsqueeze(-1)).sum(1) / lengths
            vectors: FloatArray = f.normalize(mean).numpy()
            return vectors


def has_fast_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 (AVX512-BF16, AMX); else it is slow."""
    import torch

    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in asked)


def _linear(x: Tensor, affine: Affine) -> Tensor:
    """Multiply in the type of the weights; the result is float32."""
    from torch.nn import functional as f

    weight, bias = affine
    return f.linear(x.to(weight.dtype), weight, bias).float()


def _affine(weights: dict[str, Tensor], name: str) -> Affine:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]
