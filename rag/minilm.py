"""The arithmetic of MiniLM-L6 (a BERT encoder, mean pooling) straight on torch.

One model, forward only: loading it through transformers costs three seconds of imports and
200 MB that a server pays at every start, for the same numbers (a test compares them).

A short text costs the time to read 42 MB of weights, so that their width and their layout are what
counts: in bfloat16, packed once in the order in which oneDNN multiplies, its vector differs by
0.00002 in the cosine. Sums, norms and attention stay in float32. docs/routing.md has the comparison
with int8 and others.

oneDNN compiles a product anew for every number of rows it has not seen, at 3 ms a text, so that
rows come in a few numbers only, all compiled while the encoder is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .base import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    Affine = tuple[Tensor, Tensor]
    Linear = Callable[[Tensor], Tensor]

LAYERS = 6
HEADS = 12
HEAD_DIM = 32
DIM = HEADS * HEAD_DIM
MIDDLE = 4
"""The layer whose mean is returned beside the sentence vector, counted from one."""
EPS = 1e-12
PACKED_FOR_TOKENS = 32
"""The layout of packed weights suits a text of about this length best; it serves every length."""
ROW_STEPS = ((128, 4), (256, 16), (512, 64))
"""(up to so many rows, in steps of so many)."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One transformer layer: its linear maps (``up`` ends with a GELU) and norms."""

    qkv: Linear
    attention_out: Linear
    attention_norm: Affine
    up: Linear
    down: Linear
    output_norm: Affine

    @classmethod
    def of(cls, weights: dict[str, Tensor], prefix: str, narrow: bool) -> Layer:
        """Pick a layer's tensors; query, key and value become one matrix."""
        import torch

        make = _packed if narrow else _plain
        parts = [_affine(weights, f"{prefix}attention.self.{n}") for n in ("query", "key", "value")]
        return cls(
            qkv=make((torch.cat([w for w, _ in parts]), torch.cat([b for _, b in parts]))),
            attention_out=make(_affine(weights, f"{prefix}attention.output.dense")),
            attention_norm=_affine(weights, f"{prefix}attention.output.LayerNorm"),
            up=make(_affine(weights, f"{prefix}intermediate.dense"), gelu=True),
            down=make(_affine(weights, f"{prefix}output.dense")),
            output_norm=_affine(weights, f"{prefix}output.LayerNorm"),
        )

    def __call__(self, x: Tensor, batch: int, tokens: int, mask: Tensor | None) -> Tensor:
        """Apply the layer to (rows, DIM), of which the first batch * tokens are texts.

        ``mask`` is True where a token may be seen; None = everywhere.
        """
        from torch.nn import functional as f

        heads = self.qkv(x)[: batch * tokens].float().view(batch, tokens, 3, HEADS, HEAD_DIM)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        found = f.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        seen = x.new_zeros(x.shape)
        seen[: batch * tokens].view(batch, tokens, HEADS, HEAD_DIM).copy_(found.transpose(1, 2))
        x = f.layer_norm(x + self.attention_out(seen), (DIM,), *self.attention_norm, EPS)
        return f.layer_norm(x + self.down(self.up(x)), (DIM,), *self.output_norm, EPS)


@dataclass(frozen=True, slots=True)
class Encoder:
    """Token ids to unit sentence vectors."""

    words: Tensor
    positions: Tensor
    norm: Affine
    layers: tuple[Layer, ...]

    @classmethod
    def load(cls, folder: Path, *, narrow: bool) -> Encoder:
        """Read ``model.safetensors``, matrices as packed bfloat16 if ``narrow``.

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
        """Return float32 (len(tokens), 2 * DIM); shorter inputs are padded and masked.

        With the padding at most 512 tokens.

        Each row is two unit vectors: the sentence vector, and the mean over the tokens after layer
        MIDDLE, which still tells words apart that mean the same.
        """
        import torch
        from torch.nn import functional as f

        batch, longest = len(tokens), max(len(row) for row in tokens)
        with torch.inference_mode():
            ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in tokens])
            real = torch.arange(longest) < torch.tensor([[len(row)] for row in tokens])
            mask = None if bool(real.all()) else real[:, None, None, :]
            x = f.layer_norm(self.words[ids] + self.positions[:longest], (DIM,), *self.norm, EPS)
            x = f.pad(x.view(-1, DIM), (0, 0, 0, rows_for(batch * longest) - batch * longest))
            means: list[Tensor] = []
            for number, layer in enumerate(self.layers, 1):
                x = layer(x, batch, longest, mask)
                if number in (MIDDLE, LAYERS):
                    told = x[: batch * longest].view(batch, longest, DIM)
                    means.append(f.normalize((told * real.unsqueeze(-1)).sum(1)))
            vectors: FloatArray = torch.cat(means[::-1], 1).numpy()
            return vectors

    def warm(self) -> None:
        """Have the products of every number of rows compiled."""
        import torch

        with torch.inference_mode():
            for rows in sorted({rows_for(count) for count in range(1, ROW_STEPS[-1][0] + 1)}):
                self.layers[0](torch.zeros(rows, DIM), 1, 1, None)


def rows_for(count: int) -> int:
    """Return with how many rows ``count`` of them are computed: a few numbers serve all texts."""
    step = next(step for most, step in ROW_STEPS if count <= most)
    return -(-count // step) * step


def has_fast_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 (AVX512-BF16, AMX); else it is slow."""
    import torch

    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    fast = any(getattr(torch.cpu, name, bool)() for name in asked)
    return fast and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _plain(affine: Affine, *, gelu: bool = False) -> Linear:
    """Return the map in float32."""
    from torch.nn import functional as f

    weight, bias = affine
    if gelu:
        return lambda x: f.gelu(f.linear(x, weight, bias))
    return lambda x: f.linear(x, weight, bias)


def _packed(affine: Affine, *, gelu: bool = False) -> Linear:
    """Return the map in bfloat16, by the operator that torch's own compiler calls on a CPU."""
    import torch

    bias = affine[1].bfloat16()
    weight = torch.ops.mkldnn._reorder_linear_weight(affine[0].bfloat16(), PACKED_FOR_TOKENS)
    multiply, after = torch.ops.mkldnn._linear_pointwise, "gelu" if gelu else "none"

    def linear(x: Tensor) -> Tensor:
        found: Tensor = multiply(x.bfloat16(), weight, bias, after, [], "none")
        return found

    return linear


def _affine(weights: dict[str, Tensor], name: str) -> Affine:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]
