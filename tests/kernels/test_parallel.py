"""Work on torch's own threads: the same results, one OpenMP runtime, none where torch is not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.native
pytest.importorskip("torch")
pytest.importorskip("livemind.kernels._native")

SPLIT = """
import os, re, sys
import numpy as np, torch
from livemind import kernels
rng = np.random.default_rng(1)
weight = kernels.quantize_q4(rng.standard_normal((4100, 2048), np.float32), 32)
x = rng.standard_normal((3, 2048), np.float32)
logits = rng.standard_normal((5, 60000), np.float32)
tasks = lambda: len(os.listdir("/proc/self/task"))
def run(threads):
    torch.set_num_threads(threads)
    filtered = logits.copy()
    counts = kernels.filter_logits(filtered, top_p=np.linspace(0.1, 0.9, 5, dtype=np.float32))
    return kernels.q4_linear(x, weight), filtered, counts
alone = run(1)
before = tasks()
split = run(3)
assert tasks() > before, "no thread of torch's took part"
assert all(np.array_equal(a, b) for a, b in zip(alone, split))
with open("/proc/self/maps") as maps:
    libraries = {line.split()[-1] for line in maps if re.search(r"lib[gi]?omp", line)}
assert len(libraries) == 1, libraries
"""
WITHOUT_TORCH = """
import os, sys
import numpy as np
from livemind import kernels
weight = kernels.quantize_q4(np.ones((4100, 2048), np.float32), 32)
before = len(os.listdir("/proc/self/task"))
kernels.q4_linear(np.ones((3, 2048), np.float32), weight)
assert len(os.listdir("/proc/self/task")) == before
assert "torch" not in sys.modules
assert "libgomp" not in open("/proc/self/maps").read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("program", [SPLIT, WITHOUT_TORCH], ids=["torch", "without"])
def test_large_work_uses_the_threads_that_torch_has_and_starts_none_of_its_own(
    program: str,
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(  # vLLM preloads an OpenMP runtime where it was imported
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-500:]
