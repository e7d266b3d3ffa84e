"""Numeric kernels: compiled for this processor's instruction set, else NumPy.

Importing this package loads neither. The first use of a kernel chooses, once per process: the
compiled module picks the fastest tier that the processor runs, and where the package was built
without a compiler ``reference`` computes the same in NumPy. ``LIVEMIND_KERNELS_ISA`` forces a
choice: ``numpy``, ``scalar``, ``neon``, ``neon_dot``, ``neon_mm``, ``avx2``, ``avx512`` or
``avx512_dl``; one that cannot run here is refused by name. See docs/kernels.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .dispatch import Isa, find, implementation, isa, tiers
from .names import KERNELS

if TYPE_CHECKING:
    from .encoder import *  # noqa: F403
    from .quantized import *  # noqa: F403
    from .reference import *  # noqa: F403

__all__ = ["KERNELS", "Isa", "implementation", "isa", "tiers"]


def __getattr__(name: str) -> object:
    """Return the kernel ``name`` of the chosen implementation and keep it here."""
    globals()[name] = found = find(name)
    return found
