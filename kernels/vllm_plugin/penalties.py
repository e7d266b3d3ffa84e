"""Repetition, presence and frequency penalties that touch only the tokens that were seen."""

from __future__ import annotations

import numpy as np
import torch

from ... import kernels
from .hooks import attribute, falling_back, replace

_PARAMETERS = (
    "logits",
    "prompt_token_ids",
    "presence_penalties",
    "frequency_penalties",
    "repetition_penalties",
    "output_token_ids",
)
_PADDING = -1


def install() -> None:
    """Replace what vLLM's samplers call.

    Raises:
        Different: this vLLM does it in another way.
    """
    from vllm.v1.sample.ops import penalties

    original = attribute(penalties, "apply_all_penalties", _PARAMETERS)

    @falling_back("penalties", original)
    def apply_all_penalties(
        logits: torch.Tensor,
        prompt_token_ids: torch.Tensor,
        presence_penalties: torch.Tensor,
        frequency_penalties: torch.Tensor,
        repetition_penalties: torch.Tensor,
        output_token_ids: list[list[int]],
    ) -> torch.Tensor:
        kernels.apply_penalties(
            logits,
            prompt_token_ids,
            _padded(output_token_ids),
            repetition_penalties,
            presence_penalties,
            frequency_penalties,
        )
        return logits

    replace(penalties, "apply_all_penalties", apply_all_penalties)


def _padded(rows: list[list[int]]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    longest = max(map(len, rows), default=0)
    padded = np.full((len(rows), longest), _PADDING, np.int64)
    for target, ids in zip(padded, rows, strict=True):
        target[: len(ids)] = ids
    return padded
