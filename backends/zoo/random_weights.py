"""Models with random weights and a chosen number of parameters, for timing only."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from .tokenizer import save_tokenizer_files

_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_HEAD_DIM: Final = 64
_SMALLEST: Final = 400_000
_LARGEST: Final = 4 * 10**9
_NOTE: Final = """# Random weights

This Llama of about {parameters:,} parameters was filled from a random generator (seed {seed}).
It answers with noise and is for timing only: prompt processing, decoding, memory and loading cost
what they would cost with trained weights.
"""


def parse_parameters(text: str) -> int:
    """Return the number that `100m`, `1.2b`, `500k` or `2000000` stands for.

    Raises:
        ValueError: the text has another form, or the number is outside 400k to 4b.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmb]?)", text.strip().lower())
    if match is None:
        raise ValueError(f"parameters: got {text!r}, need a number such as 500k, 100m or 1.2b")
    count = round(float(match[1]) * _UNITS[match[2]])
    if not _SMALLEST <= count <= _LARGEST:
        raise ValueError(f"parameters: got {text!r}, need 400k to 4b")
    return count


def _dimensions(parameters: int, rows: int) -> tuple[int, int, int]:
    """Return (width, layers, inner width) of a well-proportioned model of about this size."""
    best: tuple[float, int, int, int] | None = None
    for width in range(64, 8193, 64):
        inner = max(64, round(width * 8 / 3 / 64) * 64)
        layer = 4 * width * width + 3 * width * inner + 2 * width
        layers = max(1, round((parameters - rows * width) / layer))
        error = abs(rows * width + layers * layer - parameters) / parameters
        proportion = abs(layers - width / 64) / (width / 64)
        cost = error * 20 + proportion
        if best is None or cost < best[0]:
            best = (cost, width, layers, inner)
    assert best is not None
    return best[1:]


def write_random_model(
    directory: Path, parameters: int, seed: int = 0, *, rows: int | None = None, spread: float = 1.0
) -> int:
    """Write a Llama with the shared tokenizer and seeded random bf16 weights.

    Args:
        directory: created if missing; a model already in it is replaced.
        parameters: 400,000 to 4,000,000,000; met within a few per cent.
        seed: of the weights.
        rows: of the vocabulary; None: the tokenizer's own. Tokens beyond it decode to nothing.
        spread: about the standard deviation of the logits; a trained model has 3 or more.

    Returns:
        The exact number of parameters.

    Raises:
        ValueError: `parameters` is out of range.

    Needs two bytes of memory and of disk per parameter; 100 million parameters take a few seconds.
    """
    import torch
    from safetensors.torch import save_file

    from .model import Size, llama_config, vocabulary_rows

    if not _SMALLEST <= parameters <= _LARGEST:
        raise ValueError(f"parameters: got {parameters}, need {_SMALLEST} to {_LARGEST}")
    if rows is None:
        rows = vocabulary_rows()
    width, layers, inner = _dimensions(parameters, rows)
    size = Size(
        width=width, layers=layers, heads=width // _HEAD_DIM, head_dim=_HEAD_DIM, inner=inner
    )
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, shape in _shapes(size.width, layers, inner, rows).items():
        tensor = torch.ones(shape, dtype=torch.bfloat16)
        tensors[name] = (
            tensor if len(shape) == 1 else tensor.normal_(0, shape[1] ** -0.5, generator=generator)
        )
    tensors["model.norm.weight"] *= spread
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    count = sum(tensor.numel() for tensor in tensors.values())
    config = llama_config(size) | {
        "vocab_size": rows,
        "attention_bias": False,
        "livemind_random_weights": True,
    }
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (directory / "README.md").write_text(
        _NOTE.format(parameters=count, seed=seed), encoding="utf-8"
    )
    save_tokenizer_files(directory)
    return count


def _shapes(width: int, layers: int, inner: int, rows: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (rows, width),
        "model.norm.weight": (width,),
    }
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        shapes |= {f"{prefix}.self_attn.{part}_proj.weight": (width, width) for part in "qkvo"}
        shapes |= {f"{prefix}.mlp.{part}_proj.weight": (inner, width) for part in ("gate", "up")}
        shapes[f"{prefix}.mlp.down_proj.weight"] = (width, inner)
        shapes |= {
            f"{prefix}.{part}_layernorm.weight": (width,) for part in ("input", "post_attention")
        }
    return shapes
