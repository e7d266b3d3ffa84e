"""A program of one second: how long products of each number format take on this processor.

    OMP_NUM_THREADS=1 python speed_probe.py

Prints ``{format: [nanoseconds per multiplication with many rows, with one]}``. The first is what a
prefill does, the second, over weights that no cache holds, a decode step. By torch, because vLLM's
dense layers are torch's wherever oneDNN has no product of the format.
"""

import json
import time
from collections.abc import Callable

FORMATS = ("float32", "bfloat16", "float16")
# Weights (outputs, inputs) and rows.
PREFILL, DECODE = ((1536, 576), 256), ((8192, 4096), 1)
LONGEST_S, MOST_TURNS = 0.12, 7


def main() -> None:
    """Measure and print."""
    found = {name: [per_product_ns(name, *case) for case in (PREFILL, DECODE)] for name in FORMATS}
    print(json.dumps(found))


def per_product_ns(name: str, shape: tuple[int, int], rows: int) -> float:
    """Return the nanoseconds of one multiplication of a linear layer in this format."""
    import torch

    dtype = getattr(torch, name)
    weight, x = torch.ones(shape, dtype=dtype), torch.ones(rows, shape[1], dtype=dtype)
    with torch.inference_mode():
        best_s = fastest_s(lambda: torch.nn.functional.linear(x, weight))
    return best_s / (weight.numel() * rows) * 1e9


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
