"""What llvm-mca says of a loop, and the table made of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ..figures.answer import Json

BAR = 0.8
"""Cycles that ports and width alone ask for, over cycles simulated: loops below it are named."""

CAVEATS = (
    "Nobody timed these loops on Arm. The figures are llvm-mca's: a model of the core's ports and "
    "latencies runs the loop's instructions over and over, as if every load hit the first-level "
    "cache and every branch were foreseen. It does not see memory, caches, TLBs, branch "
    "prediction, the fetching of instructions, the code around the loop, or that a load waits for "
    "a store to the same place (scalar loops that keep sums in memory look better than they are).",
    "`ports` is llvm-mca's Block RThroughput: the cycles an iteration that the issue width and "
    "each kind of port ask for by themselves. It takes a port of its own and the group that the "
    "port belongs to for two things, so that it can be too low; `busy` is the share of the "
    "simulated cycles in which the busiest port had work.",
    "An element is a multiply-add of GEMM and Q4, and an element of the row elsewhere.",
    "`apart` is the same simulation with loads that step their address written as a load and an "
    "addition, where a loop has such loads.",
)

_NAME = re.compile(r"^\[(?P<key>[\d.]+)\]\s+- (?P<name>\S+)$", re.MULTILINE)
_PRESSURE = re.compile(
    r"^Resource pressure per iteration:\n(?P<keys>.+)\n(?P<values>.+)$", re.MULTILINE
)


class UnreadableOutput(ValueError):
    """llvm-mca printed something else than expected."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """One run of llvm-mca, told for one iteration of the loop."""

    instructions: float
    cycles: float
    ports: float
    resource: str
    pressure: float
    bottleneck: str
    units: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """Return what share of the cycles the ports explain."""
        return self.ports / self.cycles

    @property
    def busy(self) -> float:
        """Return in what share of the cycles the busiest resource had work."""
        return self.pressure / self.cycles


@dataclass(frozen=True, slots=True)
class Row:
    """A loop, of the tiers for which the figures are the same."""

    kernel: str
    tiers: tuple[str, ...]
    elements: float
    simulated: Simulation
    apart: Simulation | None

    @property
    def best(self) -> Simulation:
        """Return the simulation that the cycles per element are told from."""
        return self.apart or self.simulated

    def as_json(self) -> Json:
        """Return the row as the report has it."""
        runs = {"simulated": self.simulated, "apart": self.apart}
        return {
            "kernel": self.kernel,
            "tiers": list(self.tiers),
            "elements": self.elements,
            "cycles_per_element": self.best.cycles / self.elements,
        } | {name: _run_json(one) for name, one in runs.items()}


def parse(text: str) -> Simulation:
    """Return what one block of llvm-mca's text says.

    Raises:
        UnreadableOutput: a line that is needed is not there.
    """
    iterations = _number(text, "Iterations")
    pressure = _PRESSURE.search(text)
    if pressure is None:
        raise UnreadableOutput("llvm-mca printed no resource pressure")
    names = {match["key"]: match["name"] for match in _NAME.finditer(text)}
    keys = [key.strip("[]") for key in pressure["keys"].split()]
    values = [0.0 if value == "-" else float(value) for value in pressure["values"].split()]
    most, key = max(zip(values, keys, strict=True), key=lambda pair: pair[0])
    return Simulation(
        instructions=_number(text, "Instructions") / iterations,
        cycles=_number(text, "Total Cycles") / iterations,
        ports=_number(text, "Block RThroughput"),
        resource=names[key],
        pressure=most,
        bottleneck=_bottleneck(text),
        units=tuple(names.values()),
    )


def model_note(cpu: str, version: str, units: Sequence[str]) -> str:
    """Return whose resources the simulation used, read from their names."""
    vector = sum(bool(re.search(r"UnitV\d", unit)) for unit in units)
    family = units[0].split("Unit")[0] if units and "Unit" in units[0] else "unknown"
    note = f"{version}, -mcpu={cpu}, {vector} vector pipes"
    if cpu == "neoverse-v2" and family == "N2":
        return f"{note}: this version schedules Neoverse V2 with the resources of Neoverse N2"
    return f"{note}: resources of {family}"


def table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of a table in Markdown."""
    columns = (
        "loop | tiers | instructions | elements | cycles | apart | ports | ratio | "
        "busiest | busy | cycles/element"
    )
    lines = [f"| {columns} |", "|---|---|--:|--:|--:|--:|--:|--:|---|--:|--:|"]
    for row in rows:
        run = row.simulated
        ratio = f"{run.ratio:.2f}"
        if row.apart:
            ratio += f" ({row.apart.ratio:.2f} apart)"
        cells = (
            row.kernel,
            ", ".join(row.tiers),
            f"{run.instructions:.0f}",
            f"{row.elements:g}",
            f"{run.cycles:.1f}",
            f"{row.apart.cycles:.1f}" if row.apart else "",
            f"{run.ports:.1f}",
            ratio,
            row.best.resource,
            f"{row.best.busy:.0%}",
            f"{row.best.cycles / row.elements:.3f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _run_json(run: Simulation | None) -> Json | None:
    if run is None:
        return None
    told = asdict(run) | {"ratio": run.ratio, "busy": run.busy, "reaches_bar": run.ratio >= BAR}
    del told["units"]
    return told


def _number(text: str, name: str) -> float:
    found = re.search(rf"^{name}:\s+([\d.]+)$", text, re.MULTILINE)
    if found is None:
        raise UnreadableOutput(f"llvm-mca printed no {name!r}")
    return float(found[1])


def _bottleneck(text: str) -> str:
    """Return the kind of pressure that is named with the most cycles."""
    kinds = ("Resource Pressure", "Register Dependencies", "Memory Dependencies")
    shares = {}
    for kind in kinds:
        found = re.search(rf"{kind}\s+\[ ([\d.]+)% \]", text)
        shares[kind] = float(found[1]) if found else 0.0
    most = max(shares, key=lambda kind: shares[kind])
    return most.lower() if shares[most] > 0 else "none"
