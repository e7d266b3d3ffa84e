"""What consensus buys and costs: the policies against one expert, on held-out questions.

Runs the embedded experts in this process, or any models of this machine (--experts), which are
asked about passages, closed questions and open ones. Parts: accuracy (every arm on every question),
texts and times (the same with a draft? how much sooner?), mix (how much sooner as people type?),
typed (what is settled before Enter).
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from ...backends.errors import ExpertError
from ...backends.zoo.catalog import model_names
from ...orchestrator.config.settings import Settings
from ...orchestrator.live_mind import LiveMind
from ..bench import UsageError, add_common, display, number, scratch, some_of
from ..figures.answer import Json
from ..figures.table import show
from ..harness import report
from ..harness.experts import FAST, expert_of
from ..reporting.reports import read
from ..workload.plan import ExpertCase
from .accuracy import accuracy
from .ask import Asker
from .drafts import texts, times
from .meaning import meaning
from .mix import mix
from .plan import PARTS, ROWS_OF, Plan, Recorder, settings
from .rows import Row
from .summary import ARMS, cases, summary
from .tables import is_shown, tables
from .typed import typed

PERFORM = {"accuracy": accuracy, "texts": texts, "times": times, "mix": mix, "typed": typed}
MOST_SEED = 999
"""Above it are the seeds of validation and of the accuracies that weigh votes."""
MODEL_SIZES = {"validation": 30, "identical": 60}
MODEL_SIZES |= dict.fromkeys(("questions", "pairs", "mix", "typed"), 20)
"""With ``--experts``: there are 60 questions, and 30 others for validation."""
SIZES = {"questions": 15, "validation": 25, "identical": 512, "pairs": 40, "mix": 40, "typed": 20}
QUICK_SIZES = {"questions": 5, "validation": 10, "identical": 64, "pairs": 8, "mix": 8, "typed": 4}
QUICK_DOMAINS = ("technical", "coding")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    told = {name: f"({size}, --quick {QUICK_SIZES[name]})" for name, size in SIZES.items()}
    for name, known in (("parts", PARTS), ("domains", _domains())):
        listed = f"comma-separated: {', '.join(known)} (all)"
        add(f"--{name}", type=some_of(known), metavar="LIST", help=listed)
    some = number(int, 1)
    add("--questions", type=some, metavar="N", help=f"per domain and set {told['questions']}")
    add("--validation", type=some, metavar="N", help=f"per domain {told['validation']}")
    add("--identical", type=some, metavar="N", help=f"texts to compare {told['identical']}")
    add("--pairs", type=some, metavar="N", help=f"timed with drafts {told['pairs']}")
    add("--mix", type=some, metavar="N", help=f"typed with and without drafts {told['mix']}")
    add("--typed", type=some, metavar="N", help=f"typed {told['typed']}")
    seeds = number(int, 1, MOST_SEED)
    add_common(parser, "of questions, order and typing", "less of everything; two domains", seeds)
    listed = "models of this machine, the fast one first, then the one that is routed to"
    add("--experts", type=_models, metavar="LIST", default=(), help=f"{listed} (the embedded ones)")
    listed = "of verify: judges are asked, or go on themselves (embedded: continue, models: ask)"
    add("--verdict", choices=("ask", "continue"), help=listed)
    add("--keep", action="store_true", help="keep the other parts of the report in --json")


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, show, write; return the exit status."""
    plan = _plan(options)
    run = report.Run("consensus", options, console)
    config = _config(plan)
    rows = _kept(options.json, plan, run.environment, config) if options.keep else []
    run.perform(lambda: asyncio.run(_measure(plan, run, rows)), ExpertError)
    found = cases(rows, plan.seed)
    turns = [row.as_json() for row in rows]
    content = run.content(config, arms=ARMS, cases=found, turns=turns, summary=summary(found))
    show(console, tables(content))
    run.show({k: v for k, v in content["summary"].items() if is_shown(k, v)}, meaning)
    return run.finish(content)


async def _measure(plan: Plan, run: report.Run, rows: list[Row]) -> None:
    shown = display(run.console, "starting the experts", plan.steps())
    with shown as progress, scratch() as folder:
        config = settings(plan, f"{folder}/engines.log")
        async with LiveMind.from_config(Settings.model_validate(config)) as mind:
            run.environment["dtypes"] = report.dtypes(mind.stats())
            recorder = Recorder(plan, Asker(mind), progress.step, rows)
            await recorder.warm_up()
            for part in plan.parts:
                await PERFORM[part](recorder)


def _plan(options: argparse.Namespace) -> Plan:
    if options.keep and options.json is None:
        raise UsageError("--keep: needs --json FILE")
    if options.experts and options.domains:
        raise UsageError("--domains: the embedded experts have domains; not with --experts")
    default = QUICK_SIZES if options.quick else MODEL_SIZES if options.experts else SIZES
    sizes = {name: getattr(options, name) or size for name, size in default.items()}
    domains = options.domains or (QUICK_DOMAINS if options.quick else _domains())
    if options.experts:
        domains = (options.experts[1].expert_id,)
    return Plan(
        domains=domains,
        parts=options.parts or PARTS,
        per_set=sizes.pop("questions"),
        seed=options.seed,
        verdict=options.verdict or ("ask" if options.experts else "continue"),
        models=options.experts,
        **sizes,
    )


def _models(text: str) -> tuple[ExpertCase, ...]:
    """Return the models that are named, the first under the id of the fast expert."""
    try:
        fast, *others = [expert_of(name) for name in text.split(",")]
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    found = (replace(fast, expert_id=FAST), *others)
    ids, models = {one.expert_id for one in found}, {one.workload + one.folder for one in found}
    if len(found) < 2 or min(len(ids), len(models)) < len(found):
        raise argparse.ArgumentTypeError(f"got {text!r}, need two models or more, no two alike")
    return found


def _domains() -> tuple[str, ...]:
    return tuple(name for name in model_names() if name != FAST)


def _config(plan: Plan) -> Json:
    """Return everything needed to ask the same again, but for which parts."""
    found = {**asdict(plan), "domains": list(plan.domains)}
    found["models"] = [one.label for one in plan.models]
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
