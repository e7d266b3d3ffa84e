"""How much memory an expert will take, from its files: what the pool asks before it loads one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..doctor.model_files import locate, read_sizes
from ..doctor.model_shape import model_shape
from ..doctor.sizes import PROCESS_BYTES, measure
from ..machine.memory import machine_memory
from ..spec import ExpertSpec

_NVIDIA = Path("/proc/driver/nvidia/version")


def memory_need(
    spec: ExpertSpec,
    machine: Callable[[], int | None] = machine_memory,
    gpu_driver: Path = _NVIDIA,
) -> int | None:
    """Return the bytes of this machine's memory that an engine will take; None = not known.

    The doctor's estimate: weights, KV cache, process, activations. A remote expert takes none, and
    one with a share of a GPU only its processes. Reads headers; blocks while it does.
    """
    if spec.kind == "remote":
        return 0
    if spec.gpu_memory_utilization is not None and gpu_driver.exists():
        return PROCESS_BYTES
    place = locate(spec.model_path or "")
    if place is None:
        return None
    try:
        files = read_sizes(place)
        shape = None if files.config is None else model_shape(files.config)
        return measure(spec, files, shape, machine() or 0, None).total
    except (OSError, ValueError, TypeError, KeyError):
        return None  # files so damaged that the engine will say what is wrong with them
