"""When users begin. Pure; the caller owns clock and seed.

Closed loop: so many users, each asks again when answered. Open loop: users come at a rate, whether
the server keeps up or not, which is what a public server sees.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Kind = Literal["closed", "poisson", "constant"]
KINDS: tuple[Kind, ...] = ("closed", "poisson", "constant")


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How conversations begin.

    Attributes:
        concurrency: users at a time (closed loop).
        rate_per_s: conversations that begin per second (open loop).
    """

    kind: Kind = "closed"
    concurrency: int = 1
    rate_per_s: float | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError(f"--concurrency: got {self.concurrency}, need >= 1")
        if self.kind == "closed":
            if self.rate_per_s is not None:
                raise ValueError("--rate: only with --arrivals poisson or constant")
            return
        if self.rate_per_s is None or not 0 < self.rate_per_s <= 10_000:
            raise ValueError(f"--rate: got {self.rate_per_s}, need > 0 and <= 10000 per second")
        if self.concurrency != 1:
            raise ValueError("--concurrency: only with --arrivals closed")

    @property
    def overlap(self) -> bool:
        """Whether turns of several users run at a time."""
        return self.kind != "closed" or self.concurrency > 1

    def starts_s(self, count: int, rng: random.Random) -> tuple[float, ...]:
        """Return when each of ``count`` conversations begins; all 0 in a closed loop."""
        if self.kind == "closed" or self.rate_per_s is None:
            return (0.0,) * count
        at_s, found = 0.0, []
        for _ in range(count):
            found.append(at_s)
            steady = 1.0 / self.rate_per_s
            at_s += rng.expovariate(self.rate_per_s) if self.kind == "poisson" else steady
        return tuple(found)
