"""MiniLM-L6's weights as they lie in its package: ``model.safetensors`` of transformers' BERT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..base import FloatArray
from .bert import Affine, Encoder, make_layer

LAYERS = 6
MIDDLE = 4
PARTS = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention_out": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
    "output_norm": ("output.LayerNorm",),
}


def load(folder: Path, *, narrow: bool) -> Encoder:
    """Read ``model.safetensors``, matrices as packed bfloat16 if ``narrow``.

    Raises ImportError, OSError, KeyError (no such tensor).
    """
    from safetensors.numpy import load_file

    weights = load_file(folder / "model.safetensors")
    words = weights["embeddings.word_embeddings.weight"]
    segment = weights["embeddings.token_type_embeddings.weight"][0]
    parts = (
        {part: _joined(weights, number, names) for part, names in PARTS.items()}
        for number in range(LAYERS)
    )
    return Encoder(
        words=lambda ids: words[ids],
        positions=weights["embeddings.position_embeddings.weight"] + segment,
        norm=_affine(weights, "embeddings.LayerNorm"),
        layers=tuple(make_layer(layer, narrow=narrow) for layer in parts),
        middle=MIDDLE,
    )


def _joined(weights: Mapping[str, FloatArray], layer: int, names: Sequence[str]) -> Affine:
    """Return maps from the same input as one."""
    found = [_affine(weights, f"encoder.layer.{layer}.{name}") for name in names]
    return np.concatenate([w for w, _ in found]), np.concatenate([b for _, b in found])


def _affine(weights: Mapping[str, FloatArray], name: str) -> Affine:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]
