"""Time to first token from the end of the input, while the input arrives over time.

Asks a real server the same turns typed live, pasted and sent at the end, each with a cold prefix
cache, and compares them turn by turn. Without --base-url it starts what it needs on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from rich.console import Console

from ...backends.machine.processor import this_processor
from ...backends.machine.speeds import measured_speeds
from ..bench import BenchmarkFailed, progress
from ..figures.measure import distribution
from ..harness import report
from ..harness.client import Client
from ..harness.doors import OpenAIDoor
from ..harness.loop_watch import Ticks, watch_loop
from ..harness.targets import Targets
from ..workload.plan import Plan
from . import show
from .interference import Interference
from .options import UNKNOWN_SERVER, Wanted, add_arguments, wanted
from .quick import interference_cases, quick_summary
from .run import TtftRun
from .self_check import self_check
from .summary import Json, Number, ablation_summary, report_cases, report_turns
from .targets import OwnServers, livemind_doors

__all__ = ["add_arguments", "run"]

SELF_CHECK_ANSWERS = 200
"""Through each door, before a whole run."""


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, show, write; return the exit status."""
    choice = wanted(options)
    content: Json | None
    if choice.self_check:
        status, content = _self_check(choice, console)
    else:
        status, content = _ttft(choice, console)
    if content is not None and choice.json is not None:
        report.write(choice.json, content)
        console.print(f"report: {choice.json}")
    return status


def _ttft(choice: Wanted, console: Console) -> tuple[int, Json | None]:
    """Return the exit status and the report; None when nothing was asked."""
    if choice.may_scale:
        choice = choice.fitted(measured_speeds(this_processor()))
        if choice.workload is not None and choice.workload.scaled:
            console.print(choice.workload.told(), highlight=False)
    measured = Measured()
    status, failure = 0, None
    try:
        if not choice.quick:
            measured.self_check = asyncio.run(self_check(SELF_CHECK_ANSWERS, console))
        asyncio.run(_measure(choice, console, measured))
    except (BenchmarkFailed, aiohttp.ClientError, OSError) as exc:
        status, failure = 1, str(exc)
        console.print(f"bench ttft: {failure}", style="red", markup=False, highlight=False)
    except KeyboardInterrupt:
        status = 130
    if measured.run is None:
        return status, None
    content = measured.content(choice)
    show.show(console, content)
    if status == 0 and (silent := list(unanswered(content))):
        status, failure = 1, f"no finished turn: {'; '.join(silent)}"
        console.print(f"bench ttft: {failure}", style="red", markup=False, highlight=False)
    return status, {**content, "interrupted": status == 130, "failure": failure}


def unanswered(content: Json) -> Iterator[str]:
    """Yield the arms and streams of a report that show nothing, because no turn was finished."""
    for case in content["cases"]:
        for arm, one in case["arms"].items():
            if one["asked"] and not one["completed"]:
                yield f"arm {arm} of {case['name']}"
    for stream in content["interference"]:
        for name in ("alone", "beside_typing"):
            if not stream[name]["completed"]:
                yield f"stream {name.replace('_', ' ')} of {stream['expert']}"


@dataclass
class Measured:
    """What a run has shown so far, whatever ends it. ``run`` is None before its first question."""

    run: TtftRun | None = None
    interference: Interference | None = None
    ticks: Ticks = field(default_factory=Ticks)
    cold_cache: dict[str, str] = field(default_factory=dict)
    self_check: Json | None = None
    environment: Json = field(default_factory=report.environment)

    def content(self, choice: Wanted) -> Json:
        """Return the report but for how the run ended."""
        assert self.run is not None
        plan, results = choice.plan, list(self.run.results.values())
        overlap = plan.arrivals.overlap
        cases = report_cases(results, choice.slo, overlap=overlap, seed=plan.seed)
        streams = interference_cases(self.interference.results) if self.interference else []
        turns = report_turns(results)
        summary: dict[str, Number]
        summary = (
            quick_summary(results, cases, streams) if choice.quick else ablation_summary(cases)
        )
        if self.self_check is not None:
            summary |= self.self_check["summary"]
        return {
            "schema": report.SCHEMA,
            "name": "ttft",
            **self.environment,
            "seed": plan.seed,
            "config": {**choice.config(), "cold_cache": self.cold_cache},
            "arms": {
                arm.id: {"title": arm.title, "reference": arm == plan.reference}
                for arm in plan.arms
            },
            "harness": {
                "self_check": self.self_check and self.self_check["cases"],
                "loop_late_ms": _late(self.ticks.late_ms),
                "key_late_ms": _late(
                    [
                        ms
                        for one in results
                        for block in one.blocks
                        for turn in block.turns
                        for ms in turn.answer.late_ms
                    ]
                ),
            },
            "cases": cases,
            "turns": turns,
            "interference": streams,
            "summary": summary,
        }


def _late(values: list[float]) -> Json:
    return {**distribution(values), "max": max(values, default=None)}


async def _measure(choice: Wanted, console: Console, measured: Measured) -> None:
    """Perform the plan; what it shows goes into ``measured`` as it comes."""
    with ExitStack() as stack:
        display = stack.enter_context(progress(console))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="livemind-bench-")))
        task = display.add_task("getting ready", total=None)

        def say(text: str | None, done: int = 0) -> None:
            display.update(task, completed=done)
            if text is not None:
                display.update(task, description=text)

        run = TtftRun(choice.plan, say)
        if choice.base_url is not None:
            key = os.environ[choice.api_key_env] if choice.api_key_env else None
            async with Client(choice.base_url, api_key=key) as client:
                targets = await _elsewhere(choice, client)
                display.update(task, total=choice.plan.steps())
                await _perform(run, targets, client, measured)
            return
        servers = OwnServers(choice.plan, folder, choice.server_log, say)
        for tokens in _lengths(choice.plan):
            async with servers.targets(tokens or 0) as (targets, own):
                display.update(task, total=choice.plan.steps())
                await _perform(run, targets, own, measured, tokens)


def _lengths(plan: Plan) -> tuple[int | None, ...]:
    """Return the document lengths that need servers of their own; None = all in one go."""
    return plan.documents_tokens if plan.retrieves else (None,)


async def _perform(
    run: TtftRun,
    targets: Targets,
    client: Client | None,
    measured: Measured,
    documents_tokens: int | None = None,
) -> None:
    measured.run = run
    measured.cold_cache = {arm.id: targets.doors[arm.door].cold_cache for arm in run.plan.arms}
    cases = [
        case
        for case in run.plan.cases()
        if documents_tokens is None or case.documents_tokens == documents_tokens
    ]
    if client is not None:
        measured.environment["dtypes"] = await client.dtypes()
    async with watch_loop(measured.ticks):
        await run.run(targets, cases)
        if run.plan.interference_pairs and client is not None:
            measured.interference = Interference(run, client)
            await measured.interference.run()


async def _elsewhere(choice: Wanted, client: Client) -> Targets:
    """Return the doors of a server that runs already.

    Raises:
        BenchmarkFailed: it does not serve what is to be asked, or lacks the door of an arm.
    """
    models = await client.models()
    served = [str(model.get("id")) for model in models]
    for expert in choice.plan.experts:
        if expert.expert_id not in served:
            raise BenchmarkFailed(
                f"{choice.base_url} does not serve {expert.expert_id}, only {', '.join(served)}: "
                "choose with --model"
            )
    own = any(model.get("owned_by") == "livemind" for model in models)
    doors = {"openai": OpenAIDoor(client), **(livemind_doors(client) if own else {})}
    for arm in choice.plan.arms:
        if arm.door not in doors:
            raise BenchmarkFailed(f"arm {arm.id}: {UNKNOWN_SERVER}")
    return Targets(doors)


def _self_check(choice: Wanted, console: Console) -> tuple[int, Json]:
    environment = report.environment()
    checked = asyncio.run(self_check(choice.turns, console))
    show.show_self_check(console, checked)
    content = {
        "schema": report.SCHEMA,
        "name": "ttft-self-check",
        **environment,
        "seed": None,
        "config": {"answers": choice.turns},
        **checked,
    }
    return 0, content
