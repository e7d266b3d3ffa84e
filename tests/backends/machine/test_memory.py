"""The memory guard reads every limit that holds for the process: the machine's and its cgroups'."""

from __future__ import annotations

from pathlib import Path

import pytest

from livemind.backends.machine.memory import Level, free_memory, machine_memory, memory_levels
from livemind.backends.pool.footprint import memory_need
from livemind.backends.spec import ExpertSpec

GIB = 2**30


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, Path]:
    """Return cgroups and proc of a machine of 16 GiB, 4 used, with this process in a service."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: {16 * 2**20} kB\nMemAvailable: {12 * 2**20} kB\n")
    (proc / "self" / "cgroup").write_text("0::/system.slice/livemind.service\n")
    (cgroups / "system.slice" / "livemind.service").mkdir(parents=True)
    return cgroups, proc


def limit(group: Path, limit: str, used: int, droppable: int) -> None:
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 500\ninactive_file {droppable}\n")


def test_machine_memory_is_the_smallest_limit_from_the_own_cgroup_up(
    machine: tuple[Path, Path], tmp_path: Path
) -> None:
    slice_ = machine[0] / "system.slice"
    assert machine_memory(*machine) == 16 * GIB
    limit(slice_, str(8 * GIB), 0, 0)
    limit(slice_ / "livemind.service", "max", 0, 0)
    assert machine_memory(*machine) == 8 * GIB
    limit(slice_ / "livemind.service", str(4 * GIB), 0, 0)
    assert machine_memory(*machine) == 4 * GIB
    assert machine_memory(tmp_path / "none", tmp_path / "none") is None


def test_free_memory_is_what_the_tightest_limit_leaves(machine: tuple[Path, Path]) -> None:
    assert free_memory(0.75, *machine) == 8 * GIB
    limit(machine[0] / "system.slice", str(8 * GIB), 5 * GIB, GIB)
    assert memory_levels(*machine)[1:] == (Level(8 * GIB, 4 * GIB),)
    assert free_memory(0.75, *machine) == 2 * GIB
    assert free_memory(0.25, *machine) == -2 * GIB


def test_free_memory_of_an_older_cgroup_leaves_out_page_cache(machine: tuple[Path, Path]) -> None:
    group = machine[0] / "memory"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(f"{2 * GIB}\n")
    (group / "memory.usage_in_bytes").write_text(f"{2 * GIB}\n")
    (group / "memory.stat").write_text(f"total_inactive_file {GIB}\n")
    assert free_memory(1.0, *machine) == GIB


def test_free_memory_unreadable_is_unknown(tmp_path: Path) -> None:
    assert free_memory(0.9, tmp_path / "no", tmp_path / "none") is None


def test_memory_need_counts_weights_cache_and_process(tmp_path: Path) -> None:
    spec = ExpertSpec("fast", model_path="zoo:fast", kv_cache_gib=2.0)
    path = Path(__file__).parents[3] / "backends" / "zoo" / "models" / "fast"
    small = memory_need(ExpertSpec("fast", model_path=str(path), kv_cache_gib=0.5))
    large = memory_need(ExpertSpec("fast", model_path=str(path), kv_cache_gib=2.0))
    assert small is not None
    assert large is not None
    assert large - small == 1.5 * GIB
    assert small > 1.5 * GIB
    assert memory_need(spec) is None, "zoo:NAME is resolved by the configuration"
    assert memory_need(ExpertSpec("far", kind="remote")) == 0


def test_memory_need_beside_a_gpu_of_its_own_is_the_processes_alone(tmp_path: Path) -> None:
    driver = tmp_path / "version"
    driver.write_text("NVRM")
    spec = ExpertSpec("x", model_path="zoo:fast", gpu_memory_utilization=0.9)
    assert memory_need(spec, gpu_driver=driver) == GIB
