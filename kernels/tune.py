"""What is faster on this very processor, measured instead of assumed."""

from __future__ import annotations

import time
from types import ModuleType

import numpy as np

NEVER = 2**62


def measure_flash_threshold(
    native: ModuleType, lengths: tuple[int, ...] = (256, 1024, 4096)
) -> int:
    """Return from how many keys on the online softmax wins here, and use it from now on.

    Args:
        native: the compiled module.
        lengths: keys to try, ascending.

    Returns:
        The shortest length from which on the online form was faster every time; ``NEVER`` if the
        direct form won at the longest one.
    """
    rng = np.random.default_rng(0)
    wins = []
    for keys in lengths:
        q = rng.standard_normal((1, 8, 64), np.float32)
        k, v = (rng.standard_normal((1, keys, 64), np.float32) for _ in range(2))
        times: dict[bool, float] = {True: float("inf"), False: float("inf")}
        for _ in range(15):
            for flash in (True, False):
                start = time.perf_counter()
                native.attention(q, k, v, causal=False, flash=flash)
                times[flash] = min(times[flash], time.perf_counter() - start)
        wins.append(times[True] < times[False])
    found = NEVER
    for keys, won in zip(reversed(lengths), reversed(wins), strict=True):
        if not won:
            break
        found = keys
    native.set_flash_threshold(found)
    return found
