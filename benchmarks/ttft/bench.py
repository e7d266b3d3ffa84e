"""Time to first token from the end of the input, while the input arrives over time.

Asks a real server the same turns typed live, pasted and sent at the end, each with a cold prefix
cache, and compares them turn by turn. Without --base-url it starts what it needs on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import aiohttp
from rich.console import Console

from ...backends.machine.processor import this_processor
from ...backends.machine.speeds import measured_speeds
from ..bench import BenchmarkFailed, Display, display, scratch
from ..figures.answer import Json
from ..figures.measure import distribution
from ..figures.table import show
from ..harness import report
from ..harness.client import Client
from ..harness.doors import UNREACHABLE, ChatDoor
from ..harness.loop_watch import Ticks, watch_loop
from ..harness.targets import Targets
from ..workload.plan import Plan
from .interference import Interference
from .meaning import is_shown, meaning
from .options import UNKNOWN_SERVER, Requested, add_arguments, requested
from .quick import interference_cases, quick_summary
from .run import TtftRun
from .self_check import self_check
from .summary import ablation_summary, report_cases, report_turns, speech_summary
from .tables import failures, tables
from .targets import OwnServers, is_livemind, livemind_doors

__all__ = ["add_arguments", "run"]

SELF_CHECK_ANSWERS = 200
"""Through each door, before a whole run."""


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, show, write; return the exit status."""
    request = requested(options)
    if options.self_check:
        return _self_check(request, console)
    if request.may_scale:
        request = request.fitted(measured_speeds(this_processor()))
        if request.workload is not None and request.workload.scaled:
            console.print(request.workload.told(), highlight=False)
    run, measured = report.Run("ttft", options, console), Measured()
    run.perform(lambda: _measure(request, run, measured), aiohttp.ClientError, *UNREACHABLE)
    parts = measured.parts(request)
    if parts is None:
        return run.finish({"summary": {}})
    content = run.content({**request.config(), "cold_cache": measured.cold_cache}, **parts)
    show(console, tables(content))
    for failed in failures(content):
        console.print(f"failed: {failed}", style="red", markup=False, highlight=False)
    summary = content["summary"]
    run.show({key: summary[key] for key in summary if is_shown(key, content)}, meaning)
    if not run.interrupted and run.failure is None and (silent := list(unanswered(parts))):
        run.fail(f"no finished turn: {'; '.join(silent)}")
    return run.finish({**content, "failure": run.failure})


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

    def parts(self, request: Requested) -> Json | None:
        """Return what was measured, as the report has it; None when nothing was asked."""
        if self.run is None:
            return None
        plan, results = request.plan, list(self.run.results.values())
        overlap = plan.arrivals.overlap
        cases = report_cases(results, request.slo, overlap=overlap, seed=plan.seed)
        streams = interference_cases(self.interference.results) if self.interference else []
        turns = report_turns(results)
        if plan.recordings:
            summary = speech_summary(cases)
        elif request.options.quick:
            summary = quick_summary(cases, turns, streams)
        else:
            summary = ablation_summary(cases, turns)
        if self.self_check is not None:
            summary |= self.self_check["summary"]
        return {
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


def _measure(request: Requested, run: report.Run, measured: Measured) -> None:
    """Perform the plan; what it shows goes into ``measured`` as it comes."""
    if not request.options.quick:
        measured.self_check = asyncio.run(self_check(SELF_CHECK_ANSWERS, run.console))
    with display(run.console, total=request.plan.steps()) as shown:
        asyncio.run(_asked(request, run.environment, measured, shown))


async def _asked(request: Requested, environment: Json, measured: Measured, shown: Display) -> None:
    options, run = request.options, TtftRun(request.plan, shown.say)
    if options.base_url is not None:
        key = os.environ[options.api_key_env] if options.api_key_env else None
        async with Client(options.base_url, api_key=key) as client:
            targets = await _elsewhere(request, client)
            await _perform(run, targets, client, measured, environment)
        return
    with scratch() as folder:
        servers = OwnServers(request.plan, folder, options.server_log, shown.say)
        for tokens in _lengths(request.plan):
            async with servers.targets(tokens or 0) as (targets, own):
                await _perform(run, targets, own, measured, environment, tokens)


def _lengths(plan: Plan) -> tuple[int | None, ...]:
    """Return the document lengths that need servers of their own; None = all in one go."""
    return plan.documents_tokens if plan.retrieves else (None,)


async def _perform(
    run: TtftRun,
    targets: Targets,
    client: Client | None,
    measured: Measured,
    environment: Json,
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
        environment["dtypes"] = await client.dtypes()
    async with watch_loop(measured.ticks):
        await run.run(targets, cases)
        if run.plan.interference_pairs and client is not None:
            measured.interference = Interference(run, client)
            await measured.interference.run()


async def _elsewhere(request: Requested, client: Client) -> Targets:
    """Return the doors of a server that runs already.

    Raises:
        BenchmarkFailed: it does not serve what is to be asked, or lacks the door of an arm.
    """
    models = await client.models()
    served = [model.id for model in models]
    for expert in request.plan.experts:
        if expert.expert_id not in served:
            raise BenchmarkFailed(
                f"{request.options.base_url} does not serve {expert.expert_id}, only "
                f"{', '.join(served)}: choose with --model"
            )
    own = livemind_doors(client) if is_livemind(models) else {}
    doors = {"openai": ChatDoor(client, "text"), **own}
    for arm in request.plan.arms:
        if arm.door not in doors:
            raise BenchmarkFailed(f"arm {arm.id}: {UNKNOWN_SERVER}")
    return Targets(doors)


def _self_check(request: Requested, console: Console) -> int:
    run = report.Run("ttft-self-check", request.options, console)
    checked = asyncio.run(self_check(request.turns, console))
    content = {**run.content({"answers": request.turns}, **checked), "seed": None}
    show(console, tables(content))
    run.show(content["summary"], meaning)
    return run.finish(content)
