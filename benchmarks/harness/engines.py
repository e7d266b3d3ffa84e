"""A running server's processes, seen from outside through ``/proc``: its engines and its memory."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ENGINE_NAME = "EngineCore"


@dataclass(frozen=True, slots=True)
class Memory:
    """Of several processes, bytes: shared pages divided among their users, and unshared ones."""

    pss: int
    uss: int


def server_pid(config: Path) -> int:
    """Return the process that serves this configuration file.

    Raises:
        LookupError: there is none.
    """
    wanted = os.fsencode(config)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in words and b"serve" in words:
            return int(folder.name)
    raise LookupError(f"no process serves {config}")


def descendants(pid: int) -> tuple[int, ...]:
    """Return the processes below one, itself included."""
    children: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        children[parent].append(int(folder.name))
    found = [pid]
    for each in found:
        found += children[each]
    return tuple(found)


def engines(pid: int) -> tuple[int, ...]:
    """Return the engine processes of a server that are alive."""
    return tuple(each for each in descendants(pid) if _name(each).startswith(ENGINE_NAME))


def memory(pids: tuple[int, ...]) -> Memory:
    """Return what these processes take together."""
    sums: dict[str, int] = defaultdict(int)
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        for name, size in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE):
            sums[name] += int(size) * 1024
    return Memory(sums["Pss"], sums["Private_Clean"] + sums["Private_Dirty"])


def _name(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    name, _, rest = stat.partition("(")[2].rpartition(")")
    return "" if rest.split()[0] == "Z" else name
