"""How a kernel is timed: arms in turn, ratios paired, the machine's limits in the same run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np

from ..figures.answer import Json, Number
from ..figures.stats import quantile
from .case import Arm, Case

LEAST_S = 400e-6
"""A turn repeats an arm until it takes this long: the clock and the call must not show."""

READ_FLOATS = 1 << 26  # 256 MiB: in no cache


@dataclass(frozen=True, slots=True)
class Limits:
    """The best this machine did: bytes read per second and float32 operations per second."""

    read_gb_per_s: float
    gflop_per_s: float

    def share(self, case: Case, us: float) -> Number:
        """Return what share of the limit a case reached; None where it has none."""
        if case.operations:
            return case.operations / us / 1e3 / self.gflop_per_s
        if case.bytes:
            return case.bytes / us / 1e3 / self.read_gb_per_s
        return None

    def best(self, other: Limits) -> Limits:
        """Return the higher of both, each: what the machine can do varies with its neighbours."""
        return Limits(
            max(self.read_gb_per_s, other.read_gb_per_s), max(self.gflop_per_s, other.gflop_per_s)
        )

    def as_json(self) -> Json:
        """Return the limits as the report has them."""
        return {"read_gb_per_s": self.read_gb_per_s, "gflop_per_s": self.gflop_per_s}


@dataclass(slots=True)
class Measured:
    """Seconds per call of each arm, one number per turn; the n-th of all belong together."""

    times_s: dict[str, list[float]] = field(default_factory=dict)

    def peers(self) -> list[str]:
        """Return the arms other than ours."""
        return [arm for arm in self.times_s if arm != "ours"]

    def median_us(self, arm: str) -> float:
        """Return the median time of an arm in microseconds."""
        return (quantile(self.times_s[arm], 0.5) or 0.0) * 1e6

    def speedup(self, peer: str) -> tuple[float, float, float]:
        """Return median, p10 and p90 of the peer's time over ours, paired by turn."""
        pairs = zip(self.times_s[peer], self.times_s["ours"], strict=True)
        ratios = [theirs / ours for theirs, ours in pairs]
        return tuple(quantile(ratios, q) or 0.0 for q in (0.5, 0.1, 0.9))  # type: ignore[return-value]


def measure(case: Case, native: ModuleType, turns: int) -> Measured:
    """Return the times of all arms of a case."""
    arms: dict[str, Callable[[], object]] = {"ours": case.ours}
    best = native.isa()
    repeats = {}
    measured = Measured({"ours": []})
    if case.scalar and "scalar" in native.tiers() and best != "scalar":
        arms["scalar"] = case.ours
    arms |= case.peers
    for name, arm in arms.items():
        with _tier(native, "scalar" if name == "scalar" else best):
            arm()
            once = max(_time(arm, 1), 1e-7)
        repeats[name] = max(1, int(LEAST_S / once))
        measured.times_s[name] = []
    for _ in range(turns):
        for name, arm in arms.items():
            with _tier(native, "scalar" if name == "scalar" else best):
                measured.times_s[name].append(_time(arm, repeats[name]))
    return measured


def measure_limits(native: ModuleType) -> Limits:
    """Return the machine's limits: the best of several tries."""
    data = np.ones(READ_FLOATS, np.float32)  # zeros would all be one page of memory
    reads = min(_time(lambda: native.read_all(data), 1) for _ in range(8))
    rounds = 1 << 19
    operations = native.multiply_adds(rounds)
    sums = min(_time(lambda: native.multiply_adds(rounds), 1) for _ in range(8))
    return Limits(data.nbytes / reads / 1e9, operations / sums / 1e9)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch and NumPy's BLAS to one thread, as far as they are there."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError):
            import torch

            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        with contextlib.suppress(ImportError):
            from threadpoolctl import threadpool_limits

            stack.enter_context(threadpool_limits(1))
        yield


@contextlib.contextmanager
def _tier(native: ModuleType, name: str) -> Iterator[None]:
    before = native.isa()
    native.select(name)
    try:
        yield
    finally:
        native.select(before)


def _time(arm: Arm, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        arm()
    return (time.perf_counter() - start) / repeats
