"""GGUF files and wheels made on the spot: a Llama of one layer whose weights are known."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
HIDDEN, HEADS, FF = 64, 2, 96


def write_gguf(
    path: Path,
    *,
    template: str | None = TEMPLATE,
    leave_out: str = "",
    described: Mapping[str, int | float | str] | None = None,
) -> dict[str, np.ndarray[Any, Any]]:
    """Write a Llama in float32 with a tokenizer of single bytes; return its tensors."""
    import gguf

    alphabet = _byte_letters()
    tokens = [*SPECIALS, *alphabet, "Ċ" + "Ġ"]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("Tiny")
    writer.add_license("apache-2.0")
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FF)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIALS) + [1] * (len(tokens) - len(SPECIALS)))
    writer.add_token_merges(["Ċ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    if template is not None:
        writer.add_chat_template(template)
    for name, value in (described or {}).items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add[type(value)](name, value)  # type: ignore[operator]
    numbers = np.random.default_rng(0)
    shapes = {
        "token_embd.weight": (len(tokens), HIDDEN),
        "output_norm.weight": (HIDDEN,),
        "blk.0.attn_norm.weight": (HIDDEN,),
        "blk.0.ffn_norm.weight": (HIDDEN,),
        **{f"blk.0.attn_{letter}.weight": (HIDDEN, HIDDEN) for letter in ("q", "k", "v")},
        "blk.0.attn_output.weight": (HIDDEN, HIDDEN),
        "blk.0.ffn_gate.weight": (FF, HIDDEN),
        "blk.0.ffn_up.weight": (FF, HIDDEN),
        "blk.0.ffn_down.weight": (HIDDEN, FF),
    }
    tensors = {
        name: numbers.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
        if name != leave_out
    }
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def write_adapter(
    folder: Path, *, shape: tuple[int, int] = (HIDDEN, FF), **changes: object
) -> Path:
    """Write a LoRA adapter of rank 2 for the down projection, in PEFT's form; return its folder."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "bias": "none", **changes}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    numbers, (rows, columns) = np.random.default_rng(1), shape
    target = "base_model.model.model.layers.0.mlp.down_proj"
    tensors = {
        f"{target}.lora_A.weight": numbers.standard_normal((2, columns)).astype(np.float32),
        f"{target}.lora_B.weight": numbers.standard_normal((rows, 2)).astype(np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def write_wheel(
    folder: Path,
    name: str,
    files: Mapping[str, bytes],
    *,
    version: str = "1.0",
    requires: Sequence[str] = (),
    recorded: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a wheel; ``recorded`` are contents that its RECORD claims instead of the real ones."""
    stem = name.replace("-", "_")
    info = f"{stem}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "License: MIT"]
    lines += [f"Requires-Dist: {line}" for line in requires]
    inside = {f"{stem}/{path}": content for path, content in files.items()}
    inside |= {
        f"{info}/METADATA": "\n".join(lines).encode() + b"\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/LICENSE": b"as is",
    }
    record = []
    for path, content in inside.items():
        claimed = (recorded or {}).get(path.partition("/")[2], content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(claimed).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(content)}")
    record.append(f"{info}/RECORD,,")
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{stem}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in inside.items():
            archive.writestr(path, content)
        archive.writestr(f"{info}/RECORD", "\n".join(record))
    return wheel


class Told:
    """Keeps what an import reports."""

    terminal = False

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.done: list[int] = []

    def stage(self, text: str, total: int | None = None) -> None:
        self.stages.append(text)

    def progress(self, done: int) -> None:
        self.done.append(done)


def _byte_letters() -> list[str]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    letters |= {byte: chr(256 + place) for place, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]
