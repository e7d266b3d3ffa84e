"""A small Llama to train on a CPU: its sizes, its initial weights and its model directory.

The initial weights hold a prior that replaces the long search for lookup heads: heads of the first
layer look one to four tokens back (through the attention biases), and half of the heads of the
second layer attend to the token that follows the same two words in the same places. Everything
else is random, and all of it is trained. The idea of starting attention from useful structure is
that of Trockman & Kolter 2023, "Mimetic Initialization of Self-Attention Layers".
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaForCausalLM

from .tokenizer import END, PAD, load_tokenizer, save_tokenizer_files, token_id

ROPE_THETA: Final = 1_000_000.0
MAX_POSITIONS: Final = 4096
_OFFSET_SHARPNESS: Final = (8.0, 8.0, 8.0, 8.0)
_WRITE_NORM: Final = 1.0
_MATCH_GAIN: Final = 2.0
_COPY_GAIN: Final = 0.5


@dataclass(frozen=True, slots=True)
class Size:
    """The dimensions of a model. The heads together may be wider than the residual stream."""

    width: int
    layers: int
    heads: int
    head_dim: int
    inner: int

    def rows(self, head: int) -> slice:
        """The rows of a head in the query, key and value projections."""
        return slice(head * self.head_dim, (head + 1) * self.head_dim)


SPECIALIST: Final = Size(width=256, layers=4, heads=4, head_dim=64, inner=384)
CODER: Final = Size(width=256, layers=4, heads=8, head_dim=32, inner=384)
FAST: Final = Size(width=128, layers=4, heads=4, head_dim=32, inner=320)


@dataclass(frozen=True, slots=True)
class Prior:
    """What the first two layers can do before training.

    The heads of the first layer look back by `offsets` tokens. Heads of the second layer find the
    token for which, for each pair (asking, found) of `slots`, the word `found` tokens before it is
    the word `asking` tokens before the current token.
    """

    offsets: tuple[int, ...]
    slots: tuple[tuple[int, int], ...]


PAIRS: Final = Prior(offsets=(1, 2, 3, 4), slots=((1, 2), (3, 4)))
"""Finds `361` for `port of Kestrel is`: the entity one token back, the attribute three."""
COPY: Final = Prior(offsets=(0, 1, 2, 3, 4, 5), slots=((0, 1), (1, 2), (2, 3), (3, 4), (4, 5)))
"""Finds what followed the same five words before."""


def vocabulary_rows() -> int:
    """Return the number of embedding rows: the vocabulary, rounded up to a multiple of 64."""
    return -(-load_tokenizer().get_vocab_size() // 64) * 64


def llama_config(size: Size) -> dict[str, Any]:
    """Return the config.json of a model of this size."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary_rows(),
        "hidden_size": size.width,
        "intermediate_size": size.inner,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads,
        "head_dim": size.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": MAX_POSITIONS,
        "rms_norm_eps": 1e-6,
        "rope_theta": ROPE_THETA,
        "attention_bias": True,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": token_id(END),
        "pad_token_id": token_id(PAD),
        "torch_dtype": "bfloat16",
    }


def new_model(size: Size, *, prior: Prior = PAIRS, seed: int = 0) -> LlamaForCausalLM:
    """Return a float32 model with the initial weights of ``seed``."""
    model = LlamaForCausalLM(LlamaConfig(**llama_config(size)))
    with torch.no_grad():
        _initialise(model, size, prior, torch.Generator().manual_seed(seed))
    return model


def logits_at(model: LlamaForCausalLM, ids: Tensor, positions: Tensor) -> Tensor:
    """Return logits (len(positions), vocabulary) of flat positions in ids (batch, length).

    Only these meet the language-model head: the vocabulary is scored for answer tokens alone.
    """
    hidden = model.model(ids, use_cache=False).last_hidden_state
    scores: Tensor = model.lm_head(hidden.flatten(0, 1)[positions])
    return scores


def save_model(model: LlamaForCausalLM, size: Size, directory: Path) -> None:
    """Write a complete model directory: config, bf16 weights and tokenizer files."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.detach().to(torch.bfloat16).contiguous()
        for name, value in model.named_parameters()
    }
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(
        json.dumps(llama_config(size), indent=2) + "\n", encoding="utf-8"
    )
    save_tokenizer_files(directory)


def load_weights(model: LlamaForCausalLM, directory: Path) -> None:
    """Read the weights that ``save_model`` wrote; the head is the embedding, and not stored."""
    left_out = model.load_state_dict(load_file(directory / "model.safetensors"), strict=False)
    assert (left_out.missing_keys, left_out.unexpected_keys) == (["lm_head.weight"], [])


def _frequencies(head_dim: int) -> Tensor:
    return ROPE_THETA ** (-torch.arange(0, head_dim, 2).float() / head_dim)


def _initialise(
    model: LlamaForCausalLM, size: Size, prior: Prior, generator: torch.Generator
) -> None:
    """Set the initial weights; see the module docstring."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        scale = 1 / math.sqrt(size.width if "embed" in name else parameter.shape[1])
        if "o_proj" in name:
            scale /= math.sqrt(2 * size.layers) * 2
        elif "down_proj" in name:
            scale = 0.0
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    gather, match = (layer.self_attn for layer in model.model.layers[:2])
    mixer = torch.empty(gather.o_proj.weight.shape)
    nn.init.orthogonal_(mixer, generator=generator)
    for head, offset in enumerate(prior.offsets):
        rows = size.rows(head)
        _look_back(gather, rows, offset, size.head_dim)
        gather.o_proj.weight[:, rows] = mixer[:, rows] * _WRITE_NORM / math.sqrt(size.head_dim)
    for asking, found in prior.slots:
        source = size.rows(prior.offsets.index(asking))
        gather.v_proj.weight[size.rows(prior.offsets.index(found))] = gather.v_proj.weight[source]
    for head in range(size.heads // 2):
        _match_words(gather, match, size, prior, head)


def _look_back(attention: LlamaAttention, rows: slice, offset: int, head_dim: int) -> None:
    """Make a head attend `offset` tokens back.

    Query and key get equal biases in the fast rotary planes, the key's turned by the offset.
    """
    half = head_dim // 2
    for plane, (frequency, sharpness) in enumerate(
        zip(_frequencies(head_dim).tolist(), _OFFSET_SHARPNESS, strict=False)
    ):
        first = rows.start + plane
        attention.q_proj.bias[first] = sharpness
        attention.k_proj.bias[first] = sharpness * math.cos(offset * frequency)
        attention.k_proj.bias[first + half] = sharpness * math.sin(offset * frequency)
    attention.q_proj.weight[rows] *= 0.1
    attention.k_proj.weight[rows] *= 0.1


def _match_words(
    gather: LlamaAttention, match: LlamaAttention, size: Size, prior: Prior, head: int
) -> None:
    """Make a head attend to the token that follows the same words, see `Prior`."""
    rows, half = size.rows(head), size.head_dim // 2
    slow = [plane + side for side in (0, half) for plane in range(half // 2, half)]
    written = gather.o_proj.weight / gather.o_proj.weight.norm(dim=0)
    match.q_proj.weight[rows] *= 0.1
    match.k_proj.weight[rows] *= 0.1
    for number, place in enumerate(slow):
        sought, offered = torch.zeros(size.width), torch.zeros(size.width)
        for shift, (asking, found) in enumerate(prior.slots):
            source = (number + head * len(slow) + 7 * shift) % size.head_dim
            sought += written[:, size.rows(prior.offsets.index(asking))][:, source]
            offered += written[:, size.rows(prior.offsets.index(found))][:, source]
        match.q_proj.weight[rows.start + place] = sought * _MATCH_GAIN
        match.k_proj.weight[rows.start + place] = offered * _MATCH_GAIN
    match.o_proj.weight[:, rows] = match.v_proj.weight[rows].T * _COPY_GAIN
