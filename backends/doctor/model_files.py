"""A model's files: where they are and what they say, without loading weights."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..open_turn.tokens import why_no_cut
from .gguf_header import read_gguf
from .safetensors_header import ELEMENT_BITS, BadWeights, Tensor, read_safetensors

LARGEST_JSON = 256 << 20
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt")
_OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth")
_FLOATS = {"F64", "F32", "F16", "BF16"}


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of all weight files.

    Attributes:
        stored_bytes: on disk.
        float_elements: elements in a floating-point format, which the engine converts to its dtype.
        packed_bytes: everything else (integers, scales in 8 bits), which stays as it is.
        dtypes: element type → elements.
        format: ``safetensors``, ``gguf`` or ``pytorch``; the last is not looked into.
        problems: files that are damaged, incomplete or missing.
    """

    format: str
    stored_bytes: int
    float_elements: int = 0
    packed_bytes: int = 0
    dtypes: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def loaded_bytes(self, element_bytes: int) -> int:
        """Return the bytes in memory when floating-point tensors have elements of this size."""
        if self.format == "safetensors":
            return self.float_elements * element_bytes + self.packed_bytes
        return self.stored_bytes


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What was found in a model's folder; ``problems`` are files that cannot be read.

    ``why_no_cut``: why the tokenizer cannot be asked for the tokens of a text that goes on.
    """

    folder: Path
    config: Mapping[str, Any] | None
    weights: Weights | None
    tokenizer: str | None
    has_tokenizer: bool
    has_chat_template: bool
    gguf: Mapping[str, object] | None = None
    why_no_cut: str | None = None
    problems: tuple[str, ...] = ()


def locate(model_path: str, models: Path | None = None) -> Path | None:
    """Return the folder or GGUF file of a model on this machine, None if it is not here.

    A hub name is looked for below ``models`` (whole, then its last part) and in the hub's cache.
    """
    path = Path(model_path).expanduser()
    if path.is_dir() or path.is_file():
        return path
    if path.is_absolute() or model_path.startswith("."):
        return None
    if models is not None:
        for candidate in (models / model_path, models / path.name):
            if candidate.is_dir():
                return candidate
    return _in_hub_cache(model_path)


def _in_hub_cache(name: str) -> Path | None:
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()
    repository = cache / f"models--{name.replace('/', '--')}"
    try:
        revision = (repository / "refs" / "main").read_text().strip()
    except OSError:
        return None
    snapshot = repository / "snapshots" / revision
    return snapshot if snapshot.is_dir() else None


def read_sizes(place: Path) -> ModelFiles:
    """Return config and weights alone, which is quick: tokenizers are megabytes of JSON."""
    if place.is_file():
        return _read_gguf_model(place)
    problems: list[str] = []
    config = _read_json(place / "config.json", problems)
    return ModelFiles(place, config, _weights(place), None, False, False, problems=tuple(problems))


def read_model(place: Path) -> ModelFiles:
    """Return what the files of a model say; a single GGUF file counts as a model."""
    if place.is_file():
        return _read_gguf_model(place)
    problems: list[str] = []
    config = _read_json(place / "config.json", problems)
    tokenizer_config = _read_json(place / "tokenizer_config.json", problems) or {}
    template = tokenizer_config.get("chat_template") or any(
        (place / name).is_file() for name in ("chat_template.jinja", "chat_template.json")
    )
    description = _read_json(place / "tokenizer.json", [])
    return ModelFiles(
        folder=place,
        config=config,
        weights=_weights(place),
        tokenizer=_tokenizer_id(place, description),
        why_no_cut=_why_no_cut(description),
        has_tokenizer=any((place / name).is_file() for name in _TOKENIZERS),
        has_chat_template=bool(template),
        problems=tuple(problems),
    )


def _read_gguf_model(path: Path) -> ModelFiles:
    try:
        gguf = read_gguf(path)
    except BadWeights as exc:
        weights = Weights("gguf", path.stat().st_size, problems=(str(exc),))
        return ModelFiles(path, None, weights, None, False, False, gguf={})
    dtypes: Counter[str] = Counter()
    for tensor in gguf.tensors:
        dtypes[tensor.dtype] += tensor.elements
    size = sum(tensor.size for tensor in gguf.tensors)
    has = gguf.metadata
    return ModelFiles(
        folder=path,
        config=_gguf_config(has),
        weights=Weights("gguf", size, dtypes=dtypes),
        tokenizer=None,
        has_tokenizer="tokenizer.ggml.tokens" in has,
        has_chat_template="tokenizer.chat_template" in has,
        gguf=has,
    )


def _gguf_config(metadata: Mapping[str, object]) -> dict[str, Any]:
    """Return the metadata in the words of a config.json."""
    kind = str(metadata.get("general.architecture", ""))
    names = {
        "num_hidden_layers": "block_count",
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "head_dim": "attention.key_length",
        "sliding_window": "attention.sliding_window",
        "max_position_embeddings": "context_length",
    }
    found = {ours: metadata.get(f"{kind}.{theirs}") for ours, theirs in names.items()}
    return {"model_type": kind, **{key: value for key, value in found.items() if value}}


def _read_json(path: Path, problems: list[str]) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > LARGEST_JSON:
            problems.append(f"{path.name} is larger than {LARGEST_JSON >> 20} MiB")
            return None
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        problems.append(f"{path.name} cannot be read as JSON: {type(exc).__name__}")
        return None
    if not isinstance(value, dict):
        problems.append(f"{path.name} is not a JSON object")
        return None
    return value


def _weights(folder: Path) -> Weights | None:
    names = {path.name for path in folder.glob("*.safetensors")}
    missing: list[str] = []
    index = _read_json(folder / "model.safetensors.index.json", missing)
    if index is not None:
        wanted = {str(name) for name in dict(index.get("weight_map") or {}).values()}
        missing += [f"{name} is missing" for name in sorted(wanted - names)]
        names = names & wanted
    else:
        # vLLM leaves Mistral's own copy out when there are sharded files as well.
        names = {n for n in names if not n.startswith("consolidated")} or names
    if not names and not missing:
        files = [path for form in _OTHER_WEIGHTS for path in folder.glob(form)]
        size = sum(path.stat().st_size for path in files)
        return Weights("pytorch", size) if files else None
    tensors: list[Tensor] = []
    for name in sorted(names):
        try:
            tensors += read_safetensors(folder / name)
        except (BadWeights, OSError) as exc:
            missing.append(str(exc))
    return _sum(tensors, tuple(missing))


def _sum(tensors: list[Tensor], problems: tuple[str, ...]) -> Weights:
    dtypes: Counter[str] = Counter()
    for tensor in tensors:
        dtypes[tensor.dtype] += tensor.elements
    return Weights(
        "safetensors",
        sum(tensor.size for tensor in tensors),
        sum(count for name, count in dtypes.items() if name in _FLOATS),
        sum(
            n * ELEMENT_BITS.get(name, 8) // 8 for name, n in dtypes.items() if name not in _FLOATS
        ),
        dtypes,
        problems,
    )


def _tokenizer_id(folder: Path, parts: Mapping[str, Any] | None) -> str | None:
    """Return what is equal for two tokenizers that tokenize alike."""
    if parts is not None:
        described = {k: v for k, v in parts.items() if k not in ("truncation", "padding")}
        return sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
    for name in _TOKENIZERS[1:]:
        if (folder / name).is_file():
            return sha256((folder / name).read_bytes()).hexdigest()[:16]
    return None


def _why_no_cut(description: Mapping[str, Any] | None) -> str | None:
    if description is None:
        return None
    try:
        return why_no_cut(description)
    except (ImportError, LookupError, TypeError, ValueError):
        return None  # not installed here, or of a form that the engine will judge
