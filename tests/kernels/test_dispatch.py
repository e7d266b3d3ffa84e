"""Which implementation runs, and that importing the package loads neither."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LOADED = (
    "print(sorted({'livemind.kernels._native', 'livemind.kernels.reference'} & {*sys.modules}))"
)


def run(code: str, forced: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "LIVEMIND_KERNELS"}
    if forced is not None:
        environment["LIVEMIND_KERNELS"] = forced
    command = [sys.executable, "-c", f"import sys; from livemind import kernels; {code}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_kernels_import_loads_no_implementation() -> None:
    assert run(LOADED).stdout == "[]\n"


def test_kernels_forced_numpy_never_touches_the_extension() -> None:
    result = run(f"print(kernels.isa()); {LOADED}", forced="numpy")
    assert result.stdout == "numpy\n['livemind.kernels.reference']\n"


def test_kernels_missing_extension_falls_back_to_numpy() -> None:
    blocked = "sys.modules['livemind.kernels._native'] = None; print(kernels.isa())"
    assert run(blocked).stdout == "numpy\n"


def test_kernels_forced_native_without_extension_fails() -> None:
    blocked = "sys.modules['livemind.kernels._native'] = None; kernels.isa()"
    result = run(blocked, forced="native")
    assert result.returncode == 1
    assert "ImportError" in result.stderr or "ModuleNotFoundError" in result.stderr


def test_kernels_unknown_choice_is_refused_by_name() -> None:
    assert 'LIVEMIND_KERNELS: got "avx9"' in run("kernels.isa()", forced="avx9").stderr


@pytest.mark.native
def test_kernels_compiled_extension_is_preferred() -> None:
    pytest.importorskip("livemind.kernels._native")
    code = (
        "import numpy as np; m = np.eye(3, dtype=np.float32); "
        "print(kernels.isa(), kernels.cosine_top_k(m[:1], m, 1)[0].tolist(), "
        "kernels.pairwise_cosine(m).sum())"
    )
    assert run(code).stdout == "native [[0]] 3.0\n"
