"""Memory sizes: the machine's, and as text."""

from __future__ import annotations

import re
from pathlib import Path

GIB = 2**30
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return bytes of ``128GiB``, ``64 GB`` or ``1024``.

    Raises:
        ValueError: not a size, or zero.
    """
    match = _SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        raise ValueError(f'got "{text}", need a size such as 128GiB')
    units = _BINARY if match[3] else _UNITS
    size = int(float(match[1]) * units[match[2].lower()])
    if size <= 0:
        raise ValueError(f'got "{text}", need more than zero bytes')
    return size


def gib(size: float) -> str:
    """Return a size as text, ``51.1 GiB``."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.1f} MiB"


def machine_memory(
    cgroups: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")
) -> int | None:
    """Return the bytes this process may use: the machine's, or less if a cgroup limits it.

    Looks at every cgroup from the process's own up to the root, as a service with ``MemoryMax`` has
    its limit below the root. None where nothing can be read.
    """
    limits = [_total(proc / "meminfo")]
    own = _own_cgroup(proc / "self" / "cgroup")
    group = cgroups / own
    while True:
        limits.append(_limit(group / "memory.max"))
        if group == cgroups or cgroups not in group.parents:
            break
        group = group.parent
    limits.append(_limit(cgroups / "memory" / "memory.limit_in_bytes"))
    known = [limit for limit in limits if limit]
    return min(known, default=None)


def _total(meminfo: Path) -> int | None:
    try:
        line = next(s for s in meminfo.read_text().splitlines() if s.startswith("MemTotal:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _own_cgroup(path: Path) -> str:
    try:
        line = next(s for s in path.read_text().splitlines() if s.startswith("0::"))
    except (OSError, StopIteration):
        return ""
    own = line.removeprefix("0::").strip("/")
    return "" if ".." in own.split("/") else own


def _limit(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
        return None if text == "max" else int(text)
    except (OSError, ValueError):
        return None
