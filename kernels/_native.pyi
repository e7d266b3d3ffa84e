"""Native kernels; ``reference.py`` says what each means."""

from .reference import FloatArray, IntArray

def cosine_top_k(queries: FloatArray, matrix: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
    """Return the k most similar rows for each query; see ``reference.cosine_top_k``.

    Holds the GIL only while checking arguments and for very small products.
    """

def pairwise_cosine(rows: FloatArray) -> FloatArray:
    """Return the cosine of every row with every row; see ``reference.pairwise_cosine``."""
