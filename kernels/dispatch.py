"""Which implementation of a kernel runs: chosen at the first call, once per process."""

from __future__ import annotations

import functools
import os
from types import ModuleType
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from .reference import FloatArray, IntArray

Isa = Literal["native", "numpy"]


@functools.cache
def _implementation() -> tuple[Isa, ModuleType]:
    forced = os.environ.get("LIVEMIND_KERNELS", "")
    if forced not in ("", "native", "numpy"):
        raise ValueError(f'LIVEMIND_KERNELS: got "{forced}", need "native" or "numpy"')
    if forced != "numpy":
        try:
            from . import _native
        except ImportError:
            if forced == "native":
                raise
        else:
            return "native", _native
    from . import reference

    return "numpy", reference


def isa() -> Isa:
    """Return which implementation runs: ``native`` (compiled) or ``numpy``."""
    return _implementation()[0]


def cosine_top_k(queries: FloatArray, matrix: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
    """Return the k most similar rows for each query; see ``reference.cosine_top_k``."""
    return cast(
        "tuple[IntArray, FloatArray]", _implementation()[1].cosine_top_k(queries, matrix, k)
    )


def pairwise_cosine(rows: FloatArray) -> FloatArray:
    """Return the cosine of every row with every row; see ``reference.pairwise_cosine``."""
    return cast("FloatArray", _implementation()[1].pairwise_cosine(rows))
