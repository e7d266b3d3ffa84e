"""Each of the wheel's extensions that this processor can run, in a process where vLLM takes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from livemind.backends.machine.processor import X86, this_processor

pytest.importorskip("vllm")

FOLDER = Path(__file__).parents[2] / "isa"
PROGRAM = """
import json, re, sys
import vllm._custom_ops
from livemind.benchmarks.kernels.layer_cases import norms, q4
from livemind.kernels import dispatch, reference
native = dispatch.implementation()
absent = {}
for group in (norms, q4):
    for case in group(native, 1):
        absent[f"{case.kernel}.{case.name}"] = case.absent
loaded = set(re.findall(r"vllm/(_C\\w*)\\.abi3", open("/proc/self/maps").read()))
from livemind.kernels.vllm_plugin.dense_linear import vllm_has_operator
print(json.dumps({"loaded": sorted(loaded), "absent": absent, "int4": vllm_has_operator()}))
"""


def extensions() -> dict[str, str]:
    """Return extension → what the processor has to be taken for."""
    processor = this_processor()
    if processor.architecture not in X86 or not processor.has("avx2"):
        return {}
    found = {"_C_AVX2": "avx2"}
    if processor.has_avx512:
        found["_C_AVX512"] = "avx512"
    if processor.has_avx512 and processor.has("avx512_bf16"):
        found["_C"] = ""
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("extension", "isa"), extensions().items())
def test_kernels_bench_takes_operators_from_the_extension_that_vllm_chose(
    extension: str, isa: str
) -> None:
    """A second extension in one process ends the interpreter: operators are registered twice."""
    environment = {**os.environ, "PYTHONPATH": str(FOLDER), "LIVEMIND_TEST_ISA": isa}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["loaded"] == [extension]
    assert {name: why for name, why in found["absent"].items() if "norm" in name and why} == {}
    assert bool(found["absent"]["q4.m1"]) == (not found["int4"])


@pytest.mark.parametrize(
    ("isa", "left"),
    [("avx2", "avx2 fma sse4_1"), ("avx512", "avx2 fma avx512f avx512bw sse4_1")],
)
def test_lesser_processor_hides_the_flags_of_the_better_one(isa: str, left: str) -> None:
    """What ``make test-avx2`` puts into every process, on flags that this machine may lack."""
    told = "avx2 fma avx_vnni avx512f avx512bw avx512_bf16 avx512_vnni amx_tile amx_bf16 sse4_1"
    code = (
        "import re, sitecustomize\n"
        f"print(*re.sub(sitecustomize._HIDDEN[{isa!r}], '', {told!r}).split())"
    )
    environment = {**os.environ, "PYTHONPATH": str(FOLDER), "LIVEMIND_TEST_ISA": isa}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= set(told.split())
    assert set(left.split()) <= set(done.stdout.split())
    assert not {"avx512_bf16", "amx_tile", "avx512_vnni"} & set(done.stdout.split())
