"""GGUF → a folder in the layout of Hugging Face: the program of one conversion.

    python -m livemind.backends.models.convert FILE.gguf FOLDER HOW

A process of its own: it holds the whole model and what transformers imports. Reads the GGUF file,
runs no code that comes with it. HOW is a JSON object, see ``conversion.Conversion``. On standard
output stands one JSON object: what was made, or ``error``; progress bars are on standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..doctor.gguf_header import read_gguf
from .adapter import merge, read_adapter

# Split rules (`tokenizer.ggml.pre`) by which every digit stands alone and the rest is split as
# GPT-2 does; transformers reads these files as GPT-2's own.
# Source: llama.cpp, src/llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_SMOLLM and its neighbours.
_DIGITS_ALONE = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
# Those that need nothing more than what transformers builds.
_AS_GPT2 = {"gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "roberta-bpe", "mpt", "olmo"}
_SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}


def main(words: list[str]) -> int:
    """Convert, and print what came of it; return the exit status."""
    file, folder, how = words
    try:
        made = convert(Path(file), Path(folder), **json.loads(how))
        print(json.dumps(made))
    except KeyboardInterrupt:
        return 130
    except Exception as exc:
        first = str(exc).strip().partition("\n")[0]
        print(json.dumps({"error": first or type(exc).__name__}))
        return 1
    return 0


def convert(
    file: Path,
    folder: Path,
    dtype: str,
    sampling: Mapping[str, float],
    system: str = "",
    adapter: str = "",
) -> dict[str, Any]:
    """Write config, weights, tokenizer, chat template and generation settings; return a summary.

    Raises:
        ModelImportError: the adapter belongs to another model.
        ValueError: the file lacks tensors of its architecture.
        Exception: whatever transformers raises at an architecture or tokenizer it does not know.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    described = read_gguf(file).metadata
    warnings: list[str] = []
    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    place["config"] = AutoConfig.from_pretrained(**place)  # read once: it takes seconds
    tokenizer = AutoTokenizer.from_pretrained(**place)
    _mend_tokenizer(tokenizer, described, warnings)
    if system and tokenizer.chat_template:
        tokenizer.chat_template = with_system(tokenizer.chat_template, system)
    model, info = AutoModelForCausalLM.from_pretrained(
        **place,
        quantization_config=GgufConfig(dequantize=True),
        dtype=getattr(torch, dtype),
        output_loading_info=True,
    )
    missing = sorted(info["missing_keys"])
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise ValueError(f"the file lacks {len(missing)} tensors of its architecture: {shown}")
    if adapter:
        merge(model, read_adapter(Path(adapter)))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write_generation(folder, tokenizer, described, sampling)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config.pop("_model_name_or_path", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    if not tokenizer.chat_template:
        warnings.append("no chat template: a base model, which only /v1/completions can ask")
        if system:
            warnings.append("the system message has no place: there is no chat template")
    return {
        "architecture": str(config["architectures"][0]),
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "name": str(described.get("general.name", "")),
        "license": str(described.get("general.license", "")),
        "warnings": warnings,
    }


def with_system(template: str, system: str) -> str:
    """Return a chat template that begins conversations without a system message with this one."""
    message = f"{{'role': 'system', 'content': {json.dumps(system)}}}"
    return (
        "{% if not messages or messages[0]['role'] != 'system' %}"
        f"{{% set messages = [{message}] + messages %}}{{% endif %}}{template}"
    )


def _mend_tokenizer(tokenizer: Any, described: Mapping[str, Any], warnings: list[str]) -> None:
    """Give the tokenizer what the file says and transformers leaves out."""
    from tokenizers import pre_tokenizers, processors
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    backend, rule = tokenizer.backend_tokenizer, described.get("tokenizer.ggml.pre")
    byte_level = described.get("tokenizer.ggml.model") == "gpt2"
    if rule in _DIGITS_ALONE:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    elif byte_level and rule not in _AS_GPT2 and rule not in GGUF_PRE_TOKENIZER_SPLITS:
        warnings.append(
            f"split rule {rule!r} is not known: words may be cut otherwise than trained"
        )
    begin = tokenizer.bos_token
    wants = described.get("tokenizer.ggml.add_bos_token")
    if wants and begin is not None and tokenizer("a")["input_ids"][:1] != [tokenizer.bos_token_id]:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A",
            pair=f"{begin} $A {begin} $B:1",
            special_tokens=[(begin, tokenizer.bos_token_id)],
        )


def _write_generation(
    folder: Path, tokenizer: Any, described: Mapping[str, Any], sampling: Mapping[str, float]
) -> None:
    """Write which tokens end an answer and how it is sampled."""
    settings: dict[str, Any] = dict(sampling)
    for short, name in _SAMPLING.items():
        value = described.get(f"general.sampling.{short}")
        if value is not None:
            settings[name] = value
    for name in ("bos", "pad"):
        if getattr(tokenizer, f"{name}_token_id") is not None:
            settings[f"{name}_token_id"] = getattr(tokenizer, f"{name}_token_id")
    settings["eos_token_id"] = sorted(set(_ends(tokenizer, described)))
    path = folder / "generation_config.json"
    path.write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def _ends(tokenizer: Any, described: Mapping[str, Any]) -> Iterator[int]:
    """Yield the ids that end an answer: what the file names, and the template's own end mark."""
    for name in ("eos", "eot", "eom"):
        found = described.get(f"tokenizer.ggml.{name}_token_id")
        if found is not None:
            yield int(found)
    if not tokenizer.chat_template:
        return
    said = "answer"
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": said}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception:  # a template may refuse any conversation; the file's own ids stand
        return
    behind = tokenizer(text.rpartition(said)[2], add_special_tokens=False)["input_ids"]
    mark = tokenizer.added_tokens_decoder.get(behind[0]) if behind else None
    if mark is not None and mark.special:
        yield int(behind[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
