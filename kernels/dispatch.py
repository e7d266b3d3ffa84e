"""Which implementation of the kernels runs: chosen at the first use, once per process."""

from __future__ import annotations

import functools
import os
from types import ModuleType
from typing import Literal, cast

from .names import KERNELS

Isa = Literal["numpy", "scalar", "neon", "neon_dot", "neon_mm", "avx2", "avx512", "avx512_dl"]


@functools.cache
def implementation() -> ModuleType:
    """Return the module whose kernels run: the compiled one or ``reference``.

    Raises:
        ImportError: ``LIVEMIND_KERNELS_ISA`` names a compiled tier and nothing was compiled.
        ValueError: it names no tier, or one that this processor cannot run.
    """
    forced = os.environ.get("LIVEMIND_KERNELS_ISA", "")
    if forced != "numpy":
        try:
            from . import _native
        except ImportError as exc:
            if forced:
                raise ImportError(
                    f'LIVEMIND_KERNELS_ISA: got "{forced}", '
                    f"but the kernels were not compiled: {exc}"
                ) from exc
        else:
            return _native
    from . import reference

    return reference


def isa() -> Isa:
    """Return the tier that runs: ``numpy``, or the instruction set that was compiled for."""
    chosen = implementation()
    return cast("Isa", chosen.isa())


def tiers() -> list[Isa]:
    """Return every tier that can run here, slowest first; ``numpy`` always can."""
    try:
        from . import _native
    except ImportError:
        return ["numpy"]
    return cast("list[Isa]", ["numpy", *_native.tiers()])


def find(name: str) -> object:
    """Return the kernel of this name, or what belongs to packed weights.

    Raises:
        AttributeError: there is none.
    """
    if name in KERNELS:
        return getattr(implementation(), name)
    if name in ("Q4Weight", "Q8Weight", "pack_q4", "pack_q8", "quantize_q4", "quantize_q8"):
        from . import quantized

        return getattr(quantized, name)
    if name in ("EncoderLayer", "pack_columns"):
        from . import encoder

        return getattr(encoder, name)
    raise AttributeError(f"module 'livemind.kernels' has no attribute {name!r}")
