"""The memory of this machine, as the process's container sees it: how much there is, what is used.

Every cgroup from the process's own up to the root may have a limit (a service with ``MemoryMax``
has its own below the root), and so has the machine: each is a ``Level``, and all must hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CGROUPS, PROC = Path("/sys/fs/cgroup"), Path("/proc")


@dataclass(frozen=True, slots=True)
class Level:
    """One limit and what counts against it, bytes; ``used`` leaves out droppable page cache."""

    limit: int
    used: int

    def room(self, share: float) -> int:
        """Return the bytes that may still be taken if only ``share`` of the limit may be used."""
        return int(self.limit * share) - self.used


def machine_memory(cgroups: Path = CGROUPS, proc: Path = PROC) -> int | None:
    """Return the bytes this process may use: the smallest limit. None where none can be read."""
    return min((level.limit for level in memory_levels(cgroups, proc)), default=None)


def free_memory(share: float, cgroups: Path = CGROUPS, proc: Path = PROC) -> int | None:
    """Return the bytes that may still be taken if ``share`` of every limit may be used.

    Negative when more is used already; None where nothing can be read.
    """
    rooms = (level.room(share) for level in memory_levels(cgroups, proc))
    return min(rooms, default=None)


def memory_levels(cgroups: Path = CGROUPS, proc: Path = PROC) -> tuple[Level, ...]:
    """Return every limit that can be read: the machine's and those of the process's cgroups."""
    levels = [
        _machine(proc / "meminfo"),
        *_version_2(cgroups, proc),
        _version_1(cgroups / "memory"),
    ]
    return tuple(level for level in levels if level is not None and level.limit > 0)


def _machine(meminfo: Path) -> Level | None:
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        total = int(fields["MemTotal"].split()[0]) * 1024
        free = int(fields.get("MemAvailable", fields["MemTotal"]).split()[0]) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        return None
    return Level(total, total - free)


def _version_2(cgroups: Path, proc: Path) -> Iterator[Level | None]:
    group = cgroups / _own_group(proc / "self" / "cgroup")
    while True:
        yield _group(group / "memory.max", group / "memory.current", group / "memory.stat")
        if group == cgroups or cgroups not in group.parents:
            return
        group = group.parent


def _version_1(group: Path) -> Level | None:
    limit, used = group / "memory.limit_in_bytes", group / "memory.usage_in_bytes"
    return _group(limit, used, group / "memory.stat")


def _group(limit: Path, used: Path, stat: Path) -> Level | None:
    try:
        text = limit.read_text().strip()
        if text == "max":
            return None
        most = int(text)
    except (OSError, ValueError):
        return None
    return Level(most, max(_number(used) - _droppable(stat), 0))


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _droppable(stat: Path) -> int:
    try:
        fields = dict(line.split() for line in stat.read_text().splitlines())
        return int(fields.get("total_inactive_file", fields.get("inactive_file", 0)))
    except (OSError, ValueError):
        return 0


def _own_group(path: Path) -> str:
    try:
        line = next(s for s in path.read_text().splitlines() if s.startswith("0::"))
    except (OSError, StopIteration):
        return ""
    own = line.removeprefix("0::").strip("/")
    return "" if ".." in own.split("/") else own
