"""Experts on demand under stress: is anything lost, how fast do they start, what does typing hide.

Parts: stress (six experts, few loaded, random requests), kills (the same while engines are killed
with -9), starts (a second expert against plain vLLM, a typed question against one sent whole).
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass, field

from rich.console import Console

from ...orchestrator.errors import LiveMindError
from ..bench import add_common, display, number, scratch, some_of
from ..figures.answer import Json
from ..harness.report import Run
from . import starts as pool_starts, stress as pool_stress
from .starts import StartPlan, StartResult
from .stress import StressPlan, StressResult

PARTS = ("stress", "kills", "starts")
MEANING = {
    "lost": "requests without an answer, after at most eight tries",
    "doubled": "requests answered twice, and answers that nobody got",
    "mixed": "answers unlike what the same expert said to the same question before",
    "most_loaded": "experts in memory at once, by the server's own word",
    "most_engines": "engine processes alive at once, by the kernel's",
    "busy_unloaded": "times that an expert with requests was seen to be unloaded",
    "memory_share.max": "largest share of the machine's (or container's) memory in use",
    "pss_gib.max": "most memory of the server and its engines, shared pages counted once",
    "tries_per_request": "1 = nobody had to ask again",
    "hidden_share.p50": "of the wait for a load, how much is over when a typed question ends",
    "second_over_plain.p50": "start of a second expert over that of vLLM's own server",
}


@dataclass(slots=True)
class Measured:
    """What each part has shown so far."""

    stress: dict[str, StressResult] = field(default_factory=dict)
    starts: StartResult | None = None

    def summary(self) -> dict[str, float | None]:
        """Return the figures of every part that ran."""
        found: dict[str, float | None] = {}
        for name, result in self.stress.items():
            found |= result.summary(name)
        return found if self.starts is None else found | self.starts.summary()

    def cases(self) -> list[Json]:
        """Return what lies behind the figures."""
        found = [result.case(name) for name, result in self.stress.items()]
        return found if self.starts is None else [*found, self.starts.case()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    told = f"comma-separated: {', '.join(PARTS)} (all)"
    add("--parts", type=some_of(PARTS), default=PARTS, metavar="LIST", help=told)
    some, often = number(int, 1), number(float, 0.1)
    add("--requests", type=some, default=300, metavar="N", help="of each random load (300)")
    add("--clients", type=some, default=32, metavar="N", help="that ask at the same time (32)")
    add("--max-loaded", type=some, default=2, metavar="N", help="experts in memory (2)")
    add("--kill-every", type=often, default=5.0, metavar="S", help="mean time between kills (5)")
    add("--rounds", type=some, default=3, metavar="N", help="starts of each kind (3)")
    add_common(parser, "of requests, kills and typing")


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, show, write; 1 when a request was lost or doubled or a limit was passed."""
    run, measured = Run("pool", options, console), Measured()
    run.perform(lambda: asyncio.run(_measure(options, console, measured)), LiveMindError)
    summary = measured.summary()
    run.show(summary, _meaning)
    config = {"parts": options.parts, "max_loaded": options.max_loaded}
    status = run.finish(run.content(config, cases=measured.cases(), summary=summary))
    return status or int(bool(_broken(summary, options)))


async def _measure(options: argparse.Namespace, console: Console, measured: Measured) -> None:
    parts = options.parts
    with display(console) as shown, scratch() as made:
        folders = {name: made / name for name in parts}
        for folder in folders.values():
            folder.mkdir()
        for name in ("stress", "kills"):
            if name in parts:
                kills = options.kill_every if name == "kills" else None
                plan = StressPlan(
                    options.requests, options.clients, options.max_loaded, kills, options.seed
                )
                shown.begin(name, plan.requests)
                measured.stress[name] = await pool_stress.measure(plan, folders[name], shown.say)
        if "starts" in parts:
            starts = StartPlan(options.rounds, options.rounds + 1, seed=options.seed)
            measured.starts = StartResult(starts)
            shown.begin("starts", starts.rounds + starts.wake_rounds + 1)
            await pool_starts.measure(measured.starts, folders["starts"], shown.say)


def _broken(summary: dict[str, float | None], options: argparse.Namespace) -> list[str]:
    """Return the figures that must not be as they are."""
    none = ("lost", "doubled", "mixed", "busy_unloaded")
    limits = {"most_loaded": options.max_loaded, "memory_share.max": pool_stress.THRESHOLD}
    wrong = [name for name, value in summary.items() if name.endswith(none) and value]
    for name, value in summary.items():
        limit = next((most for end, most in limits.items() if name.endswith(end)), None)
        if limit is not None and value is not None and value > limit:
            wrong.append(name)
    return wrong


def _meaning(name: str) -> str:
    """Return what a figure says, by the end of its name."""
    return next((told for end, told in MEANING.items() if name.endswith(end)), "")
