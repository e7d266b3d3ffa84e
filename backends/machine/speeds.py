"""How fast this processor computes in each number format: by its flags, then measured and kept.

Owns the measurement's file in the user's cache, ``livemind/speeds.json``. What follows from it for
a model is decided in ``doctor/number_formats.py``.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from ...kernels import dispatch
from .processor import Processor

log = logging.getLogger(__name__)

PROMPT_TOKENS, ANSWER_TOKENS = 1500, 64
"""The turn by which formats are compared."""
_PROBE = f"{__package__}.speed_probe"
_PROBE_TIMEOUT_S = 60.0
_one_probe = threading.Lock()
_EMULATED = 4.0
_KEPT = 32
_KERNELS = 2  # raised where our kernels became faster, so that everybody measures anew


@dataclass(frozen=True, slots=True)
class Speeds:
    """What a turn's products cost in each number format.

    Attributes:
        costs: format → nanoseconds per weight of a turn of ``PROMPT_TOKENS`` and ``ANSWER_TOKENS``;
            by flags only the ratios mean something.
        source: ``probe``, or ``flags`` where nothing has been measured.
        prefill_ns: format → nanoseconds of one multiplication in a prefill on one thread; empty
            where nothing has been measured.
        decode_ns: the same in a decode step.

    Measured formats include ``q4`` and ``q8``, weights packed for our kernels, where these are
    compiled.
    """

    costs: Mapping[str, float]
    source: Literal["probe", "flags"]
    prefill_ns: Mapping[str, float] = field(default_factory=dict)
    decode_ns: Mapping[str, float] = field(default_factory=dict)

    def times(self, slow: str, fast: str) -> float:
        """Return how many times as long a turn takes in one format as in another."""
        return self.costs[slow] / self.costs[fast]


def expected(processor: Processor) -> Speeds:
    """Return what the instruction sets promise.

    Without instructions of its own a format is converted for every product. AVX-512 without BF16
    converts bfloat16 about as fast as it reads it.
    """
    bfloat16 = _EMULATED
    if processor.multiplies_bfloat16:
        bfloat16 = 0.5
    elif processor.has_avx512 or not processor.known:
        bfloat16 = 1.0
    float16 = 0.5 if processor.multiplies_float16 else _EMULATED
    return Speeds({"float32": 1.0, "bfloat16": bfloat16, "float16": float16}, "flags")


def known_speeds(processor: Processor) -> Speeds:
    """Return the kept measurement of this processor, else what its flags promise. Reads a file."""
    return _measured(_read().get(_key(processor))) or expected(processor)


def measured_speeds(processor: Processor) -> Speeds:
    """Return the measurement, made now if none is kept: blocks for three seconds then.

    Where torch is not installed or the measurement fails, what the flags promise. Thread-safe.
    """
    with _one_probe:
        found = known_speeds(processor)
        if found.source == "probe" or _torch() is None:
            return found
        measured = _run()
        speeds = _measured(measured)
        if speeds is None:
            return found
        _keep(_key(processor), measured)
    return speeds


def _run() -> object:
    """Run the probe in a process of its own, on one thread, away from this one's torch."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", _PROBE],
            capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, env=environment, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as exc:
        log.warning("number formats are chosen by the processor's flags: %s", type(exc).__name__)
        return None


def _measured(found: object) -> Speeds | None:
    if not isinstance(found, Mapping):
        return None
    try:
        costs = {
            str(name): float(prefill) * PROMPT_TOKENS + float(decode) * ANSWER_TOKENS
            for name, (prefill, decode) in found.items()
        }
    except (TypeError, ValueError):
        return None
    whole = {"float32", "bfloat16", "float16"} <= costs.keys() and all(
        0 < cost < float("inf") for cost in costs.values()
    )
    if not whole:
        return None
    prefill, decode = (
        {str(name): float(both[which]) for name, both in found.items()} for which in (0, 1)
    )
    return Speeds(costs, "probe", prefill, decode)


def _file() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "livemind" / "speeds.json"


def _read() -> dict[str, Any]:
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _keep(key: str, measured: object) -> None:
    """Add a measurement; where the cache cannot be written, the next process measures again."""
    file = _file()
    others = [(name, value) for name, value in _read().items() if name != key]
    text = json.dumps(dict([*others, (key, measured)][-_KEPT:]), indent=1)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=file.parent, prefix=".speeds-", delete=False, encoding="utf-8"
        ) as partial:
            partial.write(text + "\n")
        Path(partial.name).replace(file)
    except OSError as exc:
        log.info("the measured speeds are not kept: %s", exc.strerror)


def _key(processor: Processor) -> str:
    """Return what a measurement depends on: another processor, torch, tier or limit is another."""
    limits = [os.environ.get(name, "") for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")]
    sets = " ".join(processor.instruction_sets)
    computed_by = [f"torch {_torch()}", f"kernels {dispatch.isa()} {_KERNELS}"]
    return " | ".join([processor.model, sets, *computed_by, *filter(None, limits)])


def _torch() -> str | None:
    try:
        return version("torch")
    except PackageNotFoundError:
        return None
