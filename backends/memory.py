"""How full the machine's memory is, as the process's container sees it."""

from __future__ import annotations

from pathlib import Path


def used_memory_share(
    cgroup: Path = Path("/sys/fs/cgroup"), meminfo: Path = Path("/proc/meminfo")
) -> float:
    """Return used / total memory in 0..1: of the cgroup when it has a limit, else of the machine.

    Page cache that can be dropped at once does not count as used. 0.0 where neither can be read.
    """
    machine = _machine(meminfo)
    group = _cgroup(cgroup)
    return max(share for share in (machine, group, 0.0) if share is not None)


def _cgroup(root: Path) -> float | None:
    try:
        limit = (root / "memory.max").read_text().strip()
        used = int((root / "memory.current").read_text())
        stat = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
        if limit == "max" or int(limit) <= 0:
            return None
        return max(used - int(stat.get("inactive_file", 0)), 0) / int(limit)
    except (OSError, ValueError):
        return None


def _machine(meminfo: Path) -> float | None:
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        total, available = (int(fields[k].split()[0]) for k in ("MemTotal", "MemAvailable"))
        return 1.0 - available / total
    except (OSError, ValueError, KeyError, IndexError, ZeroDivisionError):
        return None
