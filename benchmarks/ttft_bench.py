"""Time to first token from Enter, typed live against sent at the end.

Asks a real server the same turns typed live, pasted and sent at the end, each with a cold prefix
cache, and compares them turn by turn.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import aiohttp
from rich.console import Console

from . import report
from .bench import BenchmarkFailed, UsageError, progress
from .client import Client
from .experts import EXPERTS, prepare, server_config
from .server_process import ServerFailed, running
from .summary import summarize
from .ttft import CASES, Plan, TtftRun
from .typing_model import TypingModel

QUICK_TURNS, TURNS = 5, 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_TURNS} turns per expert")
    parser.add_argument("--turns", type=int, metavar="N", help=f"turns per expert ({TURNS})")
    parser.add_argument("--seed", type=int, default=1, help="of questions, typing and order (1)")
    parser.add_argument("--cpm", type=float, default=400.0, help="characters a minute (400)")
    parser.add_argument("--expert", action="append", choices=sorted(EXPERTS), help="only this one")
    parser.add_argument("--case", action="append", choices=CASES, help="only this one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report")
    parser.add_argument("--server-log", type=Path, metavar="FILE", help="keep the server's output")
    parser.add_argument("--url", help="a running server with these experts, instead of an own one")


def _plan(options: argparse.Namespace) -> Plan:
    default = QUICK_TURNS if options.quick else TURNS
    turns = default if options.turns is None else options.turns
    if turns < 1:
        raise UsageError(f"--turns: got {turns}, need >= 1")
    try:
        typing = TypingModel(options.cpm)
    except ValueError as exc:
        raise UsageError(str(exc)) from None
    return Plan(
        experts=tuple(EXPERTS[name] for name in options.expert or EXPERTS),
        cases=tuple(options.case or CASES),
        turns=turns,
        seed=options.seed,
        typing=typing,
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, show, write; return the exit status."""
    plan = _plan(options)
    performed: TtftRun | None = None

    def began(started: TtftRun) -> None:
        nonlocal performed
        performed = started

    status, failure = 0, None
    try:
        asyncio.run(_measure(options, plan, console, began))
    except (ServerFailed, BenchmarkFailed, aiohttp.ClientError, OSError) as exc:
        status, failure = 1, str(exc)
        console.print(f"bench ttft: {failure}", style="red", markup=False, highlight=False)
    except KeyboardInterrupt:
        status = 130
    if performed is None:
        return status
    cases, summary = summarize(performed.results, plan.seed)
    report.show(console, cases, summary)
    if options.json is not None:
        content = {
            "schema": report.SCHEMA,
            "name": "ttft",
            "interrupted": status == 130,
            "failure": failure,
            "commit": report.commit(),
            "machine": report.machine(),
            "versions": report.versions(),
            "seed": plan.seed,
            "config": {**asdict(plan), "quick": options.quick, "url": options.url},
            "cases": cases,
            "summary": summary,
        }
        report.write(options.json, content)
        console.print(f"report: {options.json}")
    return status


async def _measure(
    options: argparse.Namespace, plan: Plan, console: Console, began: Callable[[TtftRun], None]
) -> None:
    """Perform the plan on a server; ``began`` gets the run before its first answer."""
    with progress(console) as display:
        task = display.add_task("starting the server", total=None)
        async with _server(options, plan) as url, aiohttp.ClientSession() as http:
            client = Client(http, url)
            served = await client.models()
            for case in plan.experts:
                if case.expert_id not in served:
                    raise BenchmarkFailed(f"{url} does not serve {case.expert_id}, only {served}")
            run = TtftRun(
                plan,
                client,
                lambda text, done: display.update(task, description=text, completed=done),
            )
            began(run)
            display.update(task, total=run.steps)
            await run.run()


@asynccontextmanager
async def _server(options: argparse.Namespace, plan: Plan) -> AsyncGenerator[str, None]:
    if options.url is not None:
        yield options.url
        return
    with tempfile.TemporaryDirectory(prefix="livemind-bench-") as folder:
        await prepare(plan.experts)
        config = server_config(plan.experts)
        async with running(config, Path(folder), options.server_log) as url:
            yield url
