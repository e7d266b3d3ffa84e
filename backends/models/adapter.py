"""A LoRA adapter in PEFT's form, added to the weights of a model while it is imported.

W' = W + (alpha / r) B A (Hu et al. 2021). Only a plain addition to weight matrices is taken.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .errors import ModelImportError

if TYPE_CHECKING:
    import torch

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
READING: Final = Path(__file__).with_name("adapters") / "reading"
"""Makes SmolLM2-135M-Instruct answer from a text that it is given; see its README.md."""

_PREFIX = "base_model.model."
_PLAIN: Final[Mapping[str, tuple[Any, ...]]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
}
"""Settings of an adapter that is a plain addition, each with the values it may have."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A checked folder.

    Attributes:
        folder: where its two files lie.
        scale: what the product of its matrices is multiplied by.
    """

    folder: Path
    scale: float

    @property
    def weights(self) -> Path:
        """The file of its matrices."""
        return self.folder / WEIGHTS


def read_adapter(folder: Path) -> Adapter:
    """Check the settings of an adapter.

    Raises:
        ModelImportError: a file is missing or not of that form, or the adapter is more than an
            addition to weight matrices.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelImportError(f"{folder}: has no {name}: not an adapter in PEFT's form")
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise ModelImportError(f"{folder / CONFIG}: {type(exc).__name__}: {exc}") from None
    for name, allowed in _PLAIN.items():
        if config.get(name, allowed[0]) not in allowed:
            raise ModelImportError(
                f"{folder / CONFIG}: {name} is {json.dumps(config[name])}, need"
                f" {json.dumps(allowed[0])}: only plain LoRA adapters can be merged"
            )
    if rank < 1:
        raise ModelImportError(f"{folder / CONFIG}: r is {rank}, need 1 or more")
    return Adapter(folder, alpha / (rank**0.5 if config.get("use_rslora") else rank))


def merge(model: torch.nn.Module, adapter: Adapter) -> int:
    """Add an adapter to a model's weights in place; return how many matrices it changed.

    The sum is formed in float32 and rounded once, to the format of the weights.

    Raises:
        ModelImportError: the adapter belongs to another model.
    """
    import torch
    from safetensors.torch import load_file

    tensors = load_file(adapter.weights)
    weights = dict(model.named_parameters())
    ends = (".lora_A.weight", ".lora_B.weight")
    targets = {name.removesuffix(end) for name in tensors for end in ends if name.endswith(end)}
    strange = [name for name in tensors if not name.endswith(ends)]
    if strange:
        raise ModelImportError(f"{adapter.weights}: unknown tensor {strange[0]}")
    for target in sorted(targets):
        weight = weights.get(f"{target.removeprefix(_PREFIX)}.weight")
        down, up = (tensors.get(target + end) for end in ends)
        if weight is None or down is None or up is None:
            raise ModelImportError(f"{adapter.weights}: the model has no such {target}")
        if (up.shape[0], down.shape[1]) != tuple(weight.shape) or up.shape[1] != down.shape[0]:
            raise ModelImportError(
                f"{adapter.weights}: {target} is for {up.shape[0]} by {down.shape[1]}"
                f" weights, the model's are {' by '.join(map(str, weight.shape))}"
            )
        with torch.no_grad():
            added = adapter.scale * (up.float() @ down.float())
            weight.copy_(weight.float() + added)
    return len(targets)
