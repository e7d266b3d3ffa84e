"""``livemind bench NAME``: runs a benchmark, shows its figures, writes its report."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import report
from .arms import Client
from .experts import EXPERTS, prepare, server_config
from .server_process import ServerFailed, running
from .summary import summarize
from .ttft import CASES, BenchmarkFailed, Plan, TtftRun
from .typing_model import TypingModel

QUICK_TURNS, TURNS = 5, 20


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``livemind bench``."""
    top = argparse.ArgumentParser(prog="livemind bench", description=__doc__)
    names = top.add_subparsers(dest="name", required=True)
    ttft = names.add_parser(
        "ttft",
        help="time to first token from Enter, typed live against sent at the end",
        description="Asks a real server the same turns typed live, pasted and sent at the end, "
        "each with a cold prefix cache, and compares them turn by turn.",
    )
    ttft.add_argument("--quick", action="store_true", help=f"{QUICK_TURNS} turns per expert")
    ttft.add_argument("--turns", type=int, metavar="N", help=f"turns per expert ({TURNS})")
    ttft.add_argument("--seed", type=int, default=1, help="of questions, typing and order (1)")
    ttft.add_argument("--cpm", type=float, default=400.0, help="characters a minute (400)")
    ttft.add_argument("--expert", action="append", choices=sorted(EXPERTS), help="only this one")
    ttft.add_argument("--case", action="append", choices=CASES, help="only this one")
    ttft.add_argument("--json", type=Path, metavar="FILE", help="write the report")
    ttft.add_argument("--server-log", type=Path, metavar="FILE", help="keep the server's output")
    ttft.add_argument("--url", help="a running server with these experts, instead of an own one")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark; return 0, 1 when it could not run, 130 when interrupted (report kept)."""
    options = parser().parse_args(argv)
    console = Console()
    try:
        plan = _plan(options)
    except ValueError as exc:
        parser().error(str(exc))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end the server
    try:
        return _ttft(options, plan, console)
    finally:
        signal.signal(signal.SIGTERM, before)


def _plan(options: argparse.Namespace) -> Plan:
    default = QUICK_TURNS if options.quick else TURNS
    turns = default if options.turns is None else options.turns
    if turns < 1:
        raise ValueError(f"--turns: got {turns}, need >= 1")
    return Plan(
        experts=tuple(EXPERTS[name] for name in options.expert or EXPERTS),
        cases=tuple(options.case or CASES),
        turns=turns,
        seed=options.seed,
        typing=TypingModel(options.cpm),
    )


def _ttft(options: argparse.Namespace, plan: Plan, console: Console) -> int:
    run: TtftRun | None = None

    def began(started: TtftRun) -> None:
        nonlocal run
        run = started

    status, failure = 0, None
    try:
        asyncio.run(_measure(options, plan, console, began))
    except (ServerFailed, BenchmarkFailed, aiohttp.ClientError, OSError) as exc:
        status, failure = 1, str(exc)
        console.print(f"bench ttft: {failure}", style="red", markup=False, highlight=False)
    except KeyboardInterrupt:
        status = 130
    if run is None:
        return status
    cases, summary = summarize(run.results, plan.seed)
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
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting the server", total=None)
        async with _server(options, plan) as url, aiohttp.ClientSession() as http:
            client = Client(http, url)
            served = await client.models()
            for case in plan.experts:
                if case.expert_id not in served:
                    raise BenchmarkFailed(f"{url} does not serve {case.expert_id}, only {served}")
            run = TtftRun(
                plan,
                client,
                lambda text, done: progress.update(task, description=text, completed=done),
            )
            began(run)
            progress.update(task, total=run.steps)
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


if __name__ == "__main__":
    sys.exit(main())
