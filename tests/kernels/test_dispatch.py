"""Which implementation runs, and that importing the package loads neither."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from livemind import kernels

LOADED = (
    "print(sorted({'livemind.kernels._native', 'livemind.kernels.reference'} & {*sys.modules}))"
)


def run(code: str, forced: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "LIVEMIND_KERNELS_ISA"}
    if forced is not None:
        environment["LIVEMIND_KERNELS_ISA"] = forced
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


def test_kernels_forced_tier_without_extension_fails() -> None:
    blocked = "sys.modules['livemind.kernels._native'] = None; kernels.isa()"
    result = run(blocked, forced="scalar")
    assert result.returncode == 1
    assert 'LIVEMIND_KERNELS_ISA: got "scalar", but the kernels were not compiled' in result.stderr


@pytest.mark.native
def test_kernels_unknown_tier_is_refused_by_name() -> None:
    pytest.importorskip("livemind.kernels._native")
    assert 'LIVEMIND_KERNELS_ISA: got "avx9", need numpy or one of scalar' in (
        run("kernels.isa()", forced="avx9").stderr
    )


@pytest.mark.native
@pytest.mark.parametrize("tier", kernels.tiers())
def test_kernels_forced_tier_runs(tier: str) -> None:
    code = "import numpy as np; print(kernels.isa(), kernels.softmax(np.zeros(4, np.float32)))"
    assert run(code, forced=tier).stdout == f"{tier} [0.25 0.25 0.25 0.25]\n"


@pytest.mark.native
def test_kernels_fastest_tier_is_preferred() -> None:
    pytest.importorskip("livemind.kernels._native")
    assert run("print(kernels.isa() == kernels.tiers()[-1])").stdout == "True\n"


def test_kernels_every_name_exists_in_both_implementations() -> None:
    from livemind.kernels import reference

    modules = [reference]
    if len(kernels.tiers()) > 1:
        from livemind.kernels import _native

        modules.append(_native)
    for module in modules:
        assert [name for name in kernels.KERNELS if not hasattr(module, name)] == []
