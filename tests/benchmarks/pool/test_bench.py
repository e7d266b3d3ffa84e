"""What the pool's benchmark counts as lost, doubled, mixed and hidden, and what it fails for."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from livemind.benchmarks.harness import engines
from livemind.benchmarks.pool import bench
from livemind.benchmarks.pool.starts import StartPlan, StartResult
from livemind.benchmarks.pool.stress import Asked, StressPlan, StressResult, stress_config


def stressed(*asked: Asked, completed: int) -> dict[str, float | None]:
    result = StressResult(StressPlan(requests=3), [*asked], most_loaded=2)
    result.turns_completed = completed
    return result.summary("stress")


def answered(text: str = "yes", ends: int = 1) -> Asked:
    return Asked("fast", "why?", 1, ends, text)


@pytest.mark.parametrize(
    ("asked", "completed", "figure", "value"),
    [
        ([answered(), answered(), answered()], 3, "lost", 0),
        ([answered(), answered()], 2, "lost", 1),
        ([answered(), answered(), answered(ends=0)], 2, "lost", 1),
        ([answered(), answered(), answered(ends=2)], 4, "doubled", 1),
        ([answered(), answered(), answered()], 4, "doubled", 1),
        ([answered(), answered(), answered("no")], 3, "mixed", 1),
    ],
)
def test_stress_counts_what_must_not_be(
    asked: list[Asked], completed: int, figure: str, value: int
) -> None:
    summary = stressed(*asked, completed=completed)
    assert summary[f"pool.stress.{figure}"] == value
    broken = bench._broken(summary, Namespace(max_loaded=2))
    assert (f"pool.stress.{figure}" in broken) == bool(value)


def test_stress_more_experts_loaded_than_allowed_fails_the_run() -> None:
    summary = stressed(answered(), answered(), answered(), completed=3)
    assert bench._broken(summary, Namespace(max_loaded=2)) == []
    assert bench._broken(summary, Namespace(max_loaded=1)) == ["pool.stress.most_loaded"]


def test_stress_configuration_has_six_experts_of_which_few_are_loaded() -> None:
    config = stress_config(StressPlan(max_loaded=2))
    assert len({expert["expert_id"] for expert in config["experts"]}) == 6
    assert config["lazy_loading"]["max_loaded_experts"] == 2


def test_hidden_share_is_of_the_wait_that_loading_costs() -> None:
    result = StartResult(StartPlan(), cold_ms=[1010.0], typed_ms=[60.0], warm_ms=[10.0])
    assert result.summary()["pool.wake.hidden_share.p50"] == pytest.approx(0.95)
    assert StartResult(StartPlan()).summary()["pool.wake.hidden_share.p50"] is None


def test_server_that_does_not_run_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        engines.server_pid(tmp_path / "config.json")
