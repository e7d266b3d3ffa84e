"""The kernels by group, as ``--kernel`` names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

from . import cases, layer_cases
from .case import Case

GROUPS: dict[str, Callable[[ModuleType, int], Iterator[Case]]] = {
    "filter": cases.filters,
    "softmax": cases.softmaxes,
    "penalties": cases.penalties,
    "divergence": cases.divergences,
    "similarity": cases.similarities,
    "norms": layer_cases.norms,
    "activation": layer_cases.activations,
    "q4": layer_cases.q4,
    "fp8": layer_cases.fp8,
    "dense": layer_cases.dense,
}
"""Name -> cases of that kernel; made one after the other, so that one case's data is gone first."""
