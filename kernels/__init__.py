"""Numeric kernels: compiled ones where the package was built with a compiler, else NumPy.

Importing this package loads neither. The first call chooses, once per process;
``LIVEMIND_KERNELS=numpy`` or ``=native`` in the environment forces the choice.
"""

from .dispatch import Isa, cosine_top_k, isa, pairwise_cosine

__all__ = ["Isa", "cosine_top_k", "isa", "pairwise_cosine"]
