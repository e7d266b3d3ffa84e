"""A program of one second: how long products of each number format take on this processor.

    OMP_NUM_THREADS=1 python -m livemind.backends.machine.speed_probe

Prints ``{format: [nanoseconds per multiplication with many rows, with one]}``. The first is what a
prefill does, the second, over weights that no cache holds, a decode step. By torch, because vLLM's
dense layers are torch's wherever oneDNN has no product of the format; packed weights (q4, q8) by
our kernels, where they are compiled.
"""

import functools
import json
import time
from collections.abc import Callable

FORMATS = ("float32", "bfloat16", "float16")
# Weights (outputs, inputs) and rows.
PREFILL, DECODE = ((1536, 576), 256), ((8192, 4096), 1)
GROUP = 32  # as in kernels/vllm_plugin/packed_layers.py
LONGEST_S, MOST_TURNS = 0.12, 7


def main() -> None:
    """Measure and print."""
    found = {name: [per_product_ns(name, *case) for case in (PREFILL, DECODE)] for name in FORMATS}
    print(json.dumps(found | packed()))


def per_product_ns(name: str, shape: tuple[int, int], rows: int) -> float:
    """Return the nanoseconds of one multiplication of a linear layer in this format."""
    import torch

    dtype = getattr(torch, name)
    weight, x = torch.ones(shape, dtype=dtype), torch.ones(rows, shape[1], dtype=dtype)
    with torch.inference_mode():
        best_s = fastest_s(lambda: torch.nn.functional.linear(x, weight))
    return best_s / (weight.numel() * rows) * 1e9


def packed() -> dict[str, list[float]]:
    """Return the nanoseconds of one multiplication with packed weights, by their method."""
    import numpy as np

    from ... import kernels
    from ...kernels.vllm_plugin.tiles import allow_tiles

    if kernels.isa() == "numpy":
        return {}
    allow_tiles()  # as in an engine's process
    found: dict[str, list[float]] = {}
    for name, pack in (("q4", kernels.pack_q4), ("q8", kernels.pack_q8)):
        linear = getattr(kernels, f"{name}_linear")
        for (outputs, inputs), rows in (PREFILL, DECODE):
            codes = np.ones((outputs, inputs), np.uint8)
            weight = pack(codes, np.ones((outputs, inputs // GROUP), np.float32))
            x = np.ones((rows, inputs), np.float32)
            best_s = fastest_s(functools.partial(linear, x, weight))
            found.setdefault(name, []).append(best_s / (codes.size * rows) * 1e9)
    return found


def fastest_s(call: Callable[[], object]) -> float:
    """Return the seconds of the fastest of a few calls."""
    call()  # prepares what is kept between calls
    times: list[float] = []
    while len(times) < MOST_TURNS and sum(times) < LONGEST_S:
        began_s = time.perf_counter()
        call()
        times.append(time.perf_counter() - began_s)
    return min(times)


if __name__ == "__main__":
    main()
