"""``livemind bench kernels``: turns, ratios, tiers and what the summary says."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from livemind.benchmarks.bench import BenchmarkFailed
from livemind.benchmarks.kernels import bench
from livemind.benchmarks.kernels.case import Case
from livemind.benchmarks.kernels.groups import GROUPS
from livemind.benchmarks.kernels.measure import Limits, Measured, measure
from livemind.kernels import dispatch, reference


class Native(ModuleType):
    """Stands for the compiled module: remembers which tier is chosen."""

    def __init__(self) -> None:
        super().__init__("native")
        self.chosen = "avx2"

    def isa(self) -> str:
        return self.chosen

    def tiers(self) -> list[str]:
        return ["scalar", "avx2"]

    def select(self, name: str) -> None:
        self.chosen = name


def test_measure_scalar_arm_runs_on_that_tier_and_gives_the_old_one_back() -> None:
    native = Native()
    seen: list[str] = []
    peers: list[str] = []
    case = Case("k", "c", lambda: seen.append(native.chosen))
    case.peers["numpy"] = lambda: peers.append(native.chosen)
    measured = measure(case, native, 3)
    assert set(seen) == {"avx2", "scalar"}
    assert set(peers) == {"avx2"}
    assert native.chosen == "avx2"
    assert {arm: len(times) for arm, times in measured.times_s.items()} == {
        "ours": 3,
        "scalar": 3,
        "numpy": 3,
    }


def test_measured_speedup_pairs_the_turns() -> None:
    measured = Measured({"ours": [1.0, 2.0, 4.0], "torch": [3.0, 8.0, 8.0]})
    assert measured.speedup("torch")[0] == 3.0  # of 3, 4 and 2; not 8 / 2
    assert measured.median_us("ours") == 2e6


def test_limits_share_is_of_operations_where_a_case_has_them() -> None:
    limits = Limits(read_gb_per_s=10.0, gflop_per_s=100.0)
    moved = Case("k", "c", int, bytes=1000)
    summed = Case("k", "c", int, bytes=1000, operations=5000)
    assert limits.share(moved, 0.2) == pytest.approx(0.5)
    assert limits.share(summed, 0.1) == pytest.approx(0.5)
    assert limits.share(Case("k", "c", int), 1.0) is None


def test_vllm_peer_that_cannot_do_the_case_is_noted_not_fatal() -> None:
    case = Case("k", "c", int)

    def make() -> object:
        raise RuntimeError("no such op")

    case.vllm(make)  # type: ignore[arg-type]
    assert "vllm" not in case.peers
    assert len(case.absent) == 1


def test_bench_without_compiled_kernels_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "implementation", lambda: reference)
    options = argparse.Namespace(json=None, quick=True, seed=1, only=None)
    with pytest.raises(BenchmarkFailed, match="not installed"):
        bench.run(options, Console(quiet=True))


@pytest.mark.native
def test_bench_one_kernel_writes_the_flat_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("livemind.kernels._native")
    limits = Limits(read_gb_per_s=10.0, gflop_per_s=100.0)
    monkeypatch.setattr(bench, "measure_limits", lambda _: limits)

    def cases(native: ModuleType, seed: int) -> list[Case]:
        assert seed == 5
        return [Case("fast", "small", int, {"numpy": int}, bytes=8)]

    monkeypatch.setitem(GROUPS, "softmax", cases)
    file = tmp_path / "kernels.json"
    options = argparse.Namespace(json=file, quick=True, seed=5, only=["softmax"])
    assert bench.run(options, Console(quiet=True)) == 0
    written = json.loads(file.read_text())
    assert set(written["summary"]) == {
        "kernels.fast.small.speedup_vs_scalar",
        "kernels.fast.small.speedup_vs_numpy",
        "kernels.fast.small.share_of_limit",
    }
    assert written["limits"] == {"read_gb_per_s": 10.0, "gflop_per_s": 100.0}
    assert written["config"]["threads"] == 1
