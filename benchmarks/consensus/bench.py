"""What consensus buys and costs: the policies against one expert, on held-out questions.

Runs the embedded experts in this process. Parts: accuracy (every arm on every question), texts and
times (the same with a draft? how much sooner?), mix (how much sooner as people type?), typed (what
is settled before Enter).
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ...backends.errors import ExpertError
from ...backends.zoo.catalog import model_names
from ...orchestrator.config.settings import Settings
from ...orchestrator.errors import LiveMindError
from ...orchestrator.live_mind import LiveMind
from ..bench import BenchmarkFailed, UsageError, progress
from ..harness import report
from ..reporting.reports import read
from .accuracy import accuracy
from .ask import Asker
from .drafts import texts, times
from .mix import mix
from .plan import FAST, PARTS, ROWS_OF, Plan, Recorder, settings
from .rows import Row
from .show import show
from .summary import ARMS, cases, summary
from .typed import typed

Json = dict[str, Any]
PERFORM = {"accuracy": accuracy, "texts": texts, "times": times, "mix": mix, "typed": typed}
MOST_SEED = 999
"""Above it are the seeds of validation and of the accuracies that weigh votes."""
SIZES = {"questions": 15, "validation": 25, "identical": 512, "pairs": 40, "mix": 40, "typed": 20}
QUICK_SIZES = {"questions": 5, "validation": 10, "identical": 64, "pairs": 8, "mix": 8, "typed": 4}
QUICK_DOMAINS = ("technical", "coding")


@dataclass(slots=True)
class Measured:
    """What the run has shown so far, whatever ends it."""

    rows: list[Row] = field(default_factory=list)
    environment: Json = field(default_factory=report.environment)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    told = {name: f"({size}, --quick {QUICK_SIZES[name]})" for name, size in SIZES.items()}
    domains = ", ".join(name for name in model_names() if name != FAST)
    add("--quick", action="store_true", help="less of everything; two domains")
    add("--parts", metavar="LIST", help=f"comma-separated: {', '.join(PARTS)} (all)")
    add("--domains", metavar="LIST", help=f"comma-separated: {domains} (all)")
    add("--questions", type=int, metavar="N", help=f"per domain and set {told['questions']}")
    add("--validation", type=int, metavar="N", help=f"per domain {told['validation']}")
    add("--identical", type=int, metavar="N", help=f"texts to compare {told['identical']}")
    add("--pairs", type=int, metavar="N", help=f"timed with drafts {told['pairs']}")
    add("--mix", type=int, metavar="N", help=f"typed with and without drafts {told['mix']}")
    add("--typed", type=int, metavar="N", help=f"typed {told['typed']}")
    add("--seed", type=int, default=1, help="of questions, order and typing (1)")
    add("--json", type=Path, metavar="FILE", help="write the report")
    add("--keep", action="store_true", help="keep the other parts of the report in --json")


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, show, write; return the exit status."""
    plan = _plan(options)
    measured = Measured()
    config = _config(plan)
    if options.keep:
        measured.rows = _kept(options.json, plan, measured.environment, config)
    interrupted, failure = False, None
    try:
        asyncio.run(_measure(plan, console, measured))
    except (BenchmarkFailed, ExpertError, LiveMindError, OSError) as exc:
        failure = str(exc)
        console.print(f"bench consensus: {failure}", style="red", markup=False, highlight=False)
    except KeyboardInterrupt:
        interrupted = True
    found = cases(measured.rows, plan.seed)
    content = {
        "schema": report.SCHEMA,
        "name": "consensus",
        **measured.environment,
        "seed": plan.seed,
        "config": config,
        "interrupted": interrupted,
        "failure": failure,
        "arms": ARMS,
        "cases": found,
        "turns": [row.as_json() for row in measured.rows],
        "summary": summary(found),
    }
    show(console, found, summary(found))
    if options.json is not None:
        report.write(options.json, content)
        console.print(f"report: {options.json}")
    return 130 if interrupted else int(failure is not None)


async def _measure(plan: Plan, console: Console, measured: Measured) -> None:
    with (
        progress(console) as display,
        tempfile.TemporaryDirectory(prefix="livemind-bench-") as folder,
    ):
        task = display.add_task("starting the experts", total=plan.steps())

        def step(text: str) -> None:
            display.update(task, advance=1, description=text)

        config = settings(plan, f"{folder}/engines.log")
        async with LiveMind.from_config(Settings.model_validate(config)) as mind:
            measured.environment["dtypes"] = report.dtypes(mind.stats())
            recorder = Recorder(plan, Asker(mind), step, measured.rows)
            await recorder.warm_up()
            for part in plan.parts:
                await PERFORM[part](recorder)


def _plan(options: argparse.Namespace) -> Plan:
    known = tuple(name for name in model_names() if name != FAST)
    sizes = {}
    for name, size in (QUICK_SIZES if options.quick else SIZES).items():
        given = getattr(options, name)
        if given is not None and given < 1:
            raise UsageError(f"--{name}: got {given}, need >= 1")
        sizes[name] = size if given is None else given
    if not 1 <= options.seed <= MOST_SEED:
        raise UsageError(f"--seed: got {options.seed}, need >= 1 and <= {MOST_SEED}")
    if options.keep and options.json is None:
        raise UsageError("--keep: needs --json FILE")
    default = QUICK_DOMAINS if options.quick else known
    return Plan(
        domains=_chosen("--domains", options.domains, known, default),
        parts=_chosen("--parts", options.parts, PARTS, PARTS),
        per_set=sizes.pop("questions"),
        seed=options.seed,
        **sizes,
    )


def _chosen(
    option: str, text: str | None, known: tuple[str, ...], default: tuple[str, ...]
) -> tuple[str, ...]:
    if text is None:
        return default
    names = text.split(",")
    for name in names:
        if name not in known:
            raise UsageError(f"{option}: got {name!r}, need some of {', '.join(known)}")
    return tuple(name for name in known if name in names)


def _config(plan: Plan) -> Json:
    """Return everything needed to ask the same again, but for which parts."""
    found = {**asdict(plan), "domains": list(plan.domains)}
    del found["parts"], found["seed"]
    return found


def _kept(file: Path, plan: Plan, environment: Json, config: Json) -> list[Row]:
    """Return the rows of the report that this run does not measure again.

    Raises:
        UsageError: the report is of another tree, machine, seed or size.
    """
    if not file.exists():
        return []
    content = read(file).content
    same = {
        "name": "consensus",
        "commit": environment["commit"],
        "versions": environment["versions"],
        "seed": plan.seed,
        "config": config,
    }
    for name, value in same.items():
        if content.get(name) != value:
            raise UsageError(f"--keep: {file}: {name} differs from this run's")
    again = {name for part in plan.parts for name in ROWS_OF[part]}
    rows = [Row.from_json(told) for told in content["turns"]]
    return [row for row in rows if row.part not in again]
