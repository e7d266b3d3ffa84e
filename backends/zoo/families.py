"""Tiny random models of published families: the real architecture and form of configuration.

For tests of what an engine does with a family. They answer with noise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from .tokenizer import save_tokenizer_files

_WIDTH: Final = 128
_CONTEXT: Final = 2048
_NOTE: Final = """# Random weights

A tiny {name} with the embedded experts' tokenizer, filled from a random generator (seed {seed}). It
answers with noise and is for tests of the architecture alone.
"""
# What most of them share; the names are those of transformers' configurations.
_USUAL: Final[dict[str, Any]] = {
    "hidden_size": _WIDTH,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": _CONTEXT,
    "tie_word_embeddings": False,
}
_EXPERTS: Final = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
_WINDOW: Final = {"sliding_window": 128}
_LINEAR: Final = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 128,  # vLLM's kernel for CPUs has no smaller ones
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 4,
}
_STATE: Final = {
    "mamba_n_heads": 8,
    "mamba_d_head": 32,
    "mamba_d_state": 16,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_chunk_size": 64,
}
# Name → transformers' configuration class, and what differs from the usual.
FAMILIES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "smollm2": ("LlamaConfig", {"tie_word_embeddings": True}),
    "gemma3": (
        "Gemma3TextConfig",
        {
            **_WINDOW,
            "query_pre_attn_scalar": 32,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        },
    ),
    "gpt-oss": (
        "GptOssConfig",
        {**_WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 64},
    ),
    "qwen3": ("Qwen3Config", {}),
    "qwen3-moe": ("Qwen3MoeConfig", _EXPERTS),
    "phi4-mini": ("Phi3Config", {"partial_rotary_factor": 0.75}),
    "mistral": ("MistralConfig", {"sliding_window": None}),
    "mistral-swa": ("MistralConfig", _WINDOW),
    "cohere": ("CohereConfig", {"tie_word_embeddings": True}),
    "cohere2": ("Cohere2Config", {**_WINDOW, "tie_word_embeddings": True}),
    "deepseek-v2": (
        "DeepseekV2Config",
        {
            "num_key_value_heads": 4,
            "q_lora_rank": 64,
            "kv_lora_rank": 512,  # together 576 numbers: the one size of vLLM's kernel for CPUs
            "qk_rope_head_dim": 64,
            "qk_nope_head_dim": 32,
            "v_head_dim": 32,
            "head_dim": 64,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_shared_experts": 1,
            "moe_intermediate_size": 64,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
            "topk_method": "greedy",
        },
    ),
    "llama4": (
        "Llama4TextConfig",
        {
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "intermediate_size_mlp": 256,
            "interleave_moe_layer_step": 2,
            "attention_chunk_size": 256,
        },
    ),
    "granite-hybrid": (
        "GraniteMoeHybridConfig",
        {
            **_STATE,
            "layer_types": ["mamba", "attention", "mamba", "attention"],
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "shared_intermediate_size": 256,
        },
    ),
    "mamba2": (
        "Mamba2Config",
        {
            "num_heads": 8,
            "head_dim": 32,
            "state_size": 16,
            "n_groups": 1,
            "expand": 2,
            "chunk_size": 64,
            "conv_kernel": 4,
        },
    ),
    "qwen3-next": (
        "Qwen3NextConfig",
        {**_LINEAR, **_EXPERTS, "shared_expert_intermediate_size": 64},
    ),
}


def write_family(directory: Path, name: str, seed: int = 0) -> int:
    """Write a tiny random model of a family into a folder, created if missing.

    Args:
        directory: a model already in it is replaced.
        name: one of ``FAMILIES``.
        seed: of the weights.

    Returns:
        The number of parameters.

    Raises:
        ValueError: there is no such family; the known ones are named.

    Blocks for seconds, most of them for transformers' imports.
    """
    if name not in FAMILIES:
        raise ValueError(f"got {name!r}, known are {', '.join(FAMILIES)}")
    import torch
    import transformers

    kind, changes = FAMILIES[name]
    directory.mkdir(parents=True, exist_ok=True)
    save_tokenizer_files(directory)
    tokens = _special_tokens(directory)
    config = getattr(transformers, kind)(**{**_USUAL, **changes, **tokens, "dtype": "float32"})
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 2 * parameter.shape[-1] ** -0.5)
    model.save_pretrained(directory)
    (directory / "README.md").write_text(_NOTE.format(name=name, seed=seed), encoding="utf-8")
    return sum(parameter.numel() for parameter in model.parameters())


def _special_tokens(directory: Path) -> dict[str, Any]:
    """Return vocabulary size and ids of the tokenizer that was written."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    settings = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
    end = tokenizer.token_to_id(settings["eos_token"])
    rows = -(-tokenizer.get_vocab_size() // 64) * 64
    return {"vocab_size": rows, "eos_token_id": end, "bos_token_id": None, "pad_token_id": end}
