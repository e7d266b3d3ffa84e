"""The models of ``livemind bench vllm-plugin``: random weights, written once and kept.

Sizes and formats are those of real models, the answers are noise: timing, and whether two engines
agree, depend on nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...kernels.quantized import quantized_codes
from ..harness.experts import cache_folder

GROUP = 128
SPREAD = 5.0
_WITHIN_INT32 = (0, 2, 4, 6, 1, 3, 5, 7)
"""AWQ's order of eight outputs in one int32, lowest bits first."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model: how many parameters, which vocabulary, and whether its layers have 4 bits."""

    name: str
    parameters: int
    rows: int
    int4: bool

    def folder(self) -> Path:
        """Return where the model is kept between runs."""
        return cache_folder() / f"plugin-{self.name}-{self.parameters // 10**6}m"

    def write(self, seed: int) -> Path:
        """Write the model unless it is there; return its folder."""
        from ...backends.zoo.random_weights import write_random_model

        folder = self.folder()
        if (folder / "config.json").exists():
            return folder
        partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
        write_random_model(partial, self.parameters, seed, rows=self.rows, spread=SPREAD)
        if self.int4:
            quantize_model(partial, GROUP)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
        return folder


def quantize_model(folder: Path, group: int) -> None:
    """Turn a model's projections into AWQ's form, in place; embeddings and norms stay.

    AWQ has whole zero points only; ours are rounded, which random weights do not mind.
    """
    import torch
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors: dict[str, Any] = {}
    for name, tensor in load_file(file).items():
        if not name.endswith("_proj.weight"):
            tensors[name] = tensor
            continue
        codes, scales, zeros = quantized_codes(tensor.float().numpy(), group, 4)
        prefix = name.removesuffix(".weight")
        tensors[f"{prefix}.qweight"] = torch.from_numpy(_packed(codes.T))
        tensors[f"{prefix}.qzeros"] = torch.from_numpy(_packed(np.rint(zeros.T).astype(np.uint8)))
        tensors[f"{prefix}.scales"] = torch.from_numpy(scales.T.copy()).to(tensor.dtype)
    save_file(tensors, file, metadata={"format": "pt"})
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["quantization_config"] = {
        "quant_method": "awq",
        "bits": 4,
        "group_size": group,
        "zero_point": True,
        "version": "gemm",
    }
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _packed(codes: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Pack uint8 (n, outputs), 0 to 15, into int32 (n, outputs / 8) in AWQ's order."""
    eights = codes.reshape(codes.shape[0], -1, 8)[:, :, _WITHIN_INT32].astype(np.uint32)
    packed = np.zeros(eights.shape[:2], np.uint32)
    for place in range(8):
        packed |= eights[:, :, place] << np.uint32(4 * place)
    return packed.view(np.int32)
