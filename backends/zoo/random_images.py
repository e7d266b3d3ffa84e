"""A tiny model with random weights that takes images, to try the way of an image with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from .tokenizer import PAD, ROLES, load_tokenizer, save_tokenizer_files, token_id

IMAGE_MARK: Final = "<image>"
_MARKS: Final = (IMAGE_MARK, "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
_SIDE: Final = 56
_PATCH: Final = 14
_SHRINK: Final = 2
_IMAGE_TOKENS: Final = (_SIDE // _PATCH // _SHRINK) ** 2
_PROCESSOR: Final = {
    "image_processor_type": "Idefics3ImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"longest_edge": _SIDE},
    "max_image_size": {"longest_edge": _SIDE},
    "do_image_splitting": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "do_pad": True,
    "resample": 1,
}


def write_random_image_model(directory: Path, seed: int = 0) -> int:
    """Write an Idefics3 of under a million parameters with the shared tokenizer.

    The architecture is one that vLLM 0.32 runs on a CPU without torchvision. An image becomes a few
    tokens, whatever its size, and the answers are noise that depends on it.

    Args:
        directory: created if missing; a model already in it is replaced.
        seed: of the weights.

    Returns:
        The number of parameters.
    """
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, LlamaConfig

    directory.mkdir(parents=True, exist_ok=True)
    image = _save_tokenizer(directory)
    rows = -(-(image + len(_MARKS)) // 64) * 64
    layers: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2}
    text = LlamaConfig(
        **layers, vocab_size=rows, hidden_size=128, intermediate_size=256, head_dim=64,
        num_key_value_heads=2, max_position_embeddings=4096, pad_token_id=token_id(PAD),
    )  # fmt: skip
    vision = {
        **layers, "hidden_size": 64, "intermediate_size": 128, "image_size": _SIDE,
        "patch_size": _PATCH,
    }  # fmt: skip
    torch.manual_seed(seed)
    config = Idefics3Config(
        vision_config=vision, text_config=text, image_token_id=image, scale_factor=_SHRINK,
        pad_token_id=token_id(PAD),
    )  # fmt: skip
    model = Idefics3ForConditionalGeneration(config).to(torch.bfloat16)
    model.save_pretrained(directory)
    processor = {"processor_class": "Idefics3Processor", "image_seq_len": _IMAGE_TOKENS}
    for name, content in (
        ("preprocessor_config.json", _PROCESSOR),
        ("processor_config.json", processor),
    ):
        (directory / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return sum(parameter.numel() for parameter in model.parameters())


def _save_tokenizer(directory: Path) -> int:
    """Write the shared tokenizer with the marks of images; return the id of the first mark."""
    from tokenizers import AddedToken

    save_tokenizer_files(directory)
    tokenizer = type(load_tokenizer()).from_str(load_tokenizer().to_str())
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in _MARKS])
    tokenizer.save(str(directory / "tokenizer.json"))
    file = directory / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["additional_special_tokens"] = [*(f"<|{role}|>" for role in ROLES), *_MARKS]
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    found = tokenizer.token_to_id(IMAGE_MARK)
    assert found is not None
    return int(found)
