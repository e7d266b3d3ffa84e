"""The kernels of packed weights as operators of torch: a compiled graph calls them as they are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from ... import kernels
from ..quantized import Q4Weight, Q8Weight

_SIGNATURE = (
    "(Tensor x, Tensor codes, Tensor scales, Tensor offsets, Tensor? bias, "
    "int outputs, int group) -> Tensor"
)


@functools.cache
def define() -> Any:
    """Define ``livemind::q4_linear`` and ``livemind::q8_linear`` once; return their library."""
    library: Any = torch.library.Library("livemind", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name, kind in (("q4_linear", Q4Weight), ("q8_linear", Q8Weight)):
        library.define(name + _SIGNATURE)
        library.impl(name, _compute(name, kind), "CPU")
        library._register_fake(name, _shaped)
    return library


def _shaped(
    x: torch.Tensor,
    codes: torch.Tensor,
    scales: torch.Tensor,
    offsets: torch.Tensor,
    bias: torch.Tensor | None,
    outputs: int,
    group: int,
) -> torch.Tensor:
    return x.new_empty(x.shape[0], outputs)


def _compute(name: str, kind: type[Q4Weight] | type[Q8Weight]) -> Callable[..., torch.Tensor]:
    def compute(
        x: torch.Tensor,
        codes: torch.Tensor,
        scales: torch.Tensor,
        offsets: torch.Tensor,
        bias: torch.Tensor | None,
        outputs: int,
        group: int,
    ) -> torch.Tensor:
        out = x.new_empty(x.shape[0], outputs)
        weight = kind(codes, scales, offsets, outputs, group)  # type: ignore[arg-type]
        kernel = getattr(kernels, name)
        kernel(x, weight, None if bias is None else bias.float(), out)
        return out

    return compute
