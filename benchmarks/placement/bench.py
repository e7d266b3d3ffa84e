"""Where requests go in a fleet: what replicas have cached, and how many wait there, by policy.

Simulated: 100 replicas and 10,000 conversations whose instructions follow Zipf's law, one of them
hot for a while, replicas that leave and come back. The policy of a remote expert's ``base_urls`` is
held against random, round robin, least loaded and rendezvous hashing, at three loads, and against
one cache without end that all replicas share. About three minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from ..bench import add_common, display
from ..figures.answer import Json, Number
from ..figures.stats import quantile
from ..harness.report import Run
from .policies import POLICIES
from .simulation import Served, play
from .workload import Fleet, Load, changes_of, turns_of

LEVELS = {"light": 350.0, "busy": 230.0, "full": 150.0}
"""Seconds in which the conversations begin."""
QUICK = 10
"""So many times smaller is a quick run."""
OURS, PEER = "placement", "least loaded"
MEANING = {
    "hit_over_best": "cached prompt tokens, over what one shared cache without end would have had",
    "ahead_over_least_loaded.p95": "requests at the chosen replica, over least loaded's",
    "waited_s.p95": "seconds until the prompt is begun",
    "hit": "share of prompt tokens that the replica had cached",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_common(parser, "of the conversations", f"a {QUICK}th of the replicas and conversations")


def run(options: argparse.Namespace, console: Console) -> int:
    """Simulate, print, write the report."""
    measured = Run("placement", options, console)
    small = QUICK if options.quick else 1
    fleet = Fleet(replicas=100 // small)
    load = Load(sessions=10_000 // small, prefixes=1_000 // small)
    cases: list[Json] = []
    measured.perform(lambda: _simulate(fleet, load, options.seed, console, cases))
    summary = summarise(cases)
    for table in tables({"cases": cases}):
        console.print(table)
    measured.show(summary, meaning)
    config = {"fleet": asdict(fleet), "load": asdict(load), "over_s": LEVELS}
    return measured.finish(measured.content(config, cases=cases, summary=summary))


def meaning(key: str) -> str:
    """Return what a number of the summary is."""
    return next((told for ending, told in MEANING.items() if key.endswith(ending)), "")


def _simulate(fleet: Fleet, load: Load, seed: int, console: Console, cases: list[Json]) -> None:
    with display(console, total=len(LEVELS) * len(POLICIES)) as shown:
        for level, over_s in LEVELS.items():
            spread = Load(**{**asdict(load), "over_s": over_s})
            turns, changes = turns_of(spread, seed), changes_of(spread, fleet, seed)
            for name, policy in POLICIES.items():
                shown.step(f"{level}: {name}", 0)
                made = policy(fleet.names, fleet.at_a_time)
                cases.append(case(level, name, play(turns, changes, fleet, made)))
                shown.step()


def case(level: str, policy: str, served: Sequence[Served]) -> Json:
    """Return what a policy did at a load: shares of all prompt tokens, quantiles over requests."""
    prompts = sum(one.prompt_tokens for one in served)
    ahead, waited = [one.ahead for one in served], [one.waited_s for one in served]
    return {
        "level": level,
        "policy": policy,
        "requests": len(served),
        "hit": sum(one.cached_tokens for one in served) / prompts,
        "best": sum(one.possible_tokens for one in served) / prompts,
        **{f"ahead_p{q}": quantile(ahead, q / 100) for q in (50, 95, 99)},
        **{f"waited_s_p{q}": quantile(waited, q / 100) for q in (50, 95, 99)},
    }


def summarise(cases: Sequence[Json]) -> dict[str, Number]:
    """Return ours against the best possible and the least loaded, and everybody's hit rate."""
    found: dict[str, Number] = {}
    for one in cases:
        start = f"placement.{one['level']}.{one['policy'].replace(' ', '_')}"
        found[f"{start}.hit"] = one["hit"]
        found[f"{start}.waited_s.p95"] = one["waited_s_p95"]
    by_name = {(one["level"], one["policy"]): one for one in cases}
    for level in dict.fromkeys(one["level"] for one in cases):
        ours, peer = by_name.get((level, OURS)), by_name.get((level, PEER))
        if ours is None or peer is None:
            continue
        start = f"placement.{level}"
        found[f"{start}.hit_over_best"] = ours["hit"] / ours["best"]
        found[f"{start}.ahead_over_least_loaded.p95"] = (
            ours["ahead_p95"] / peer["ahead_p95"] if peer["ahead_p95"] else None
        )
    return found


def tables(content: Json) -> list[Table]:
    """Return a table of policies for each load."""
    found = []
    for level in dict.fromkeys(case["level"] for case in content["cases"]):
        mine = [case for case in content["cases"] if case["level"] == level]
        best = mine[0]["best"]
        title = f"{level}: {mine[0]['requests']} requests, best possible {best:.3f}"
        columns = ("policy", "cached", "of best", "at the replica p50", "p95", "waited p95, s")
        table = Table(*columns, box=SIMPLE, title=title)
        for case in mine:
            table.add_row(
                case["policy"],
                f"{case['hit']:.3f}",
                f"{case['hit'] / best:.3f}",
                f"{case['ahead_p50']:g}",
                f"{case['ahead_p95']:g}",
                f"{case['waited_s_p95']:.2f}",
            )
        found.append(table)
    return found
