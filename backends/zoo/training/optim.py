"""Muon for the matrices, AdamW for the rest, and the learning-rate schedule."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from ...machine.processor import this_processor

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(gradients: Tensor, steps: int = 5) -> Tensor:
    """Return the nearest semi-orthogonal matrices of a batch (n, rows, columns).

    Newton-Schulz in bfloat16, in float32 where that is emulated.
    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    a, b, c = _NEWTON_SCHULZ
    x = gradients.bfloat16() if this_processor().multiplies_bfloat16 else gradients.float()
    transposed = x.shape[-2] > x.shape[-1]
    if transposed:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if transposed else x
    return result.to(gradients.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised per matrix; matrices of one shape are handled as one batch.

    The same updates as ``torch.optim.Muon``, which multiplies in bfloat16 on every processor: where
    that is emulated, a step of the fast expert on 512 tokens takes 2.8 s with it, 0.3 s with this.
    """

    def __init__(
        self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        """Optimise two-dimensional `parameters`; `decay` is decoupled weight decay."""
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Apply one update from the gradients; `closure` is not used."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for shape, members in shapes.items():
                updates = orthogonalise(
                    torch.stack([self._momentum(p, group["momentum"]) for p in members])
                )
                scale = group["lr"] * math.sqrt(max(1.0, shape[0] / shape[1]))
                for parameter, update in zip(members, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["decay"]).add_(update, alpha=-scale)

    def _momentum(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        assert parameter.grad is not None
        buffer = self.state[parameter].setdefault("buffer", torch.zeros_like(parameter))
        buffer.lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(buffer, momentum)


def optimizers(model: nn.Module, matrix_lr: float, other_lr: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the hidden matrices and AdamW for embeddings, norms and biases."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        Muon(matrices, matrix_lr),
        torch.optim.AdamW(others, other_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def schedule(step: int, steps: int, warmup: float = 0.03) -> float:
    """Return the learning-rate factor of a step: linear warm-up, then a cosine down to 0."""
    start = max(1, int(steps * warmup))
    if step < start:
        return (step + 1) / start
    return 0.5 * (1 + math.cos(math.pi * (step - start) / max(1, steps - start)))
