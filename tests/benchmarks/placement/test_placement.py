"""The simulated fleet: what it counts, and that placement keeps its two bars."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livemind.benchmarks import cli
from livemind.benchmarks.placement.bench import LEVELS, case, meaning, summarise
from livemind.benchmarks.placement.policies import POLICIES, RoundRobin
from livemind.benchmarks.placement.simulation import play
from livemind.benchmarks.placement.workload import (
    Change,
    Fleet,
    Load,
    Turn,
    changes_of,
    turns_of,
)
from livemind.benchmarks.reporting.charts.placement import charts

SMALL = Fleet(replicas=10)


def turn(at_s: float, key: str, prompt: int, prefix: str = "prefix-0") -> Turn:
    return Turn(at_s, key, prefix, 100, prompt, 10)


def test_play_counts_what_the_replica_had_cached_and_what_any_had() -> None:
    fleet = Fleet(replicas=2, at_a_time=1)
    asked = [turn(0, "a", 120), turn(50, "b", 130), turn(100, "a", 200), turn(150, "a", 240)]
    served = play(asked, (), fleet, RoundRobin(fleet.names, 1))
    assert [one.cached_tokens for one in served] == [0, 0, 130, 100]
    assert [one.possible_tokens for one in served] == [0, 100, 130, 210]


def test_play_full_replica_lets_requests_wait_in_order() -> None:
    fleet = Fleet(replicas=1, at_a_time=1, token_s=1.0, prefill_tokens_per_s=100.0)
    served = play(
        [turn(0, "a", 200), turn(1, "b", 200), turn(2, "c", 100)],
        (),
        fleet,
        RoundRobin(fleet.names, 1),
    )
    assert [one.ahead for one in served] == [0, 1, 2]
    assert [one.waited_s for one in served] == [0.0, 11.0, 21.0]  # 2 + 10 s, then 1 + 10 s


def test_play_replica_that_left_is_not_asked_and_comes_back_empty() -> None:
    fleet = Fleet(replicas=2, at_a_time=4)
    name = POLICIES["rendezvous"](fleet.names, 4).choose("a", None, (), 0)
    changes = [Change(10, name), Change(20, name)]
    served = play(
        [turn(t, "a", 200) for t in (0, 5, 15, 25)],
        changes,
        fleet,
        POLICIES["rendezvous"](fleet.names, 4),
    )
    assert [one.cached_tokens for one in served] == [0, 200, 0, 0]


def test_play_cache_has_a_bound_and_forgets_what_was_used_longest_ago() -> None:
    fleet = Fleet(replicas=1, at_a_time=4, room_tokens=400)
    asked = [turn(0, "a", 250), turn(10, "b", 250), turn(20, "c", 250), turn(30, "a", 250)]
    served = play(asked, (), fleet, RoundRobin(fleet.names, 4))
    assert [one.cached_tokens for one in served] == [0, 100, 100, 100]


def test_placement_small_fleet_keeps_both_bars() -> None:
    load = Load(sessions=1_000, prefixes=100, leave_every_s=90)
    turns, changes = turns_of(load, 1), changes_of(load, SMALL, 1)
    assert len(changes) >= 4
    cases = [
        case("busy", name, play(turns, changes, SMALL, POLICIES[name](SMALL.names, 16)))
        for name in ("least loaded", "rendezvous", "placement")
    ]
    found = summarise(cases)
    hit, queue = (
        found["placement.busy.hit_over_best"],
        found["placement.busy.ahead_over_least_loaded.p95"],
    )
    assert hit is not None
    assert hit >= 0.95
    assert queue is not None
    assert queue <= 1.3
    assert cases[1]["ahead_p95"] > cases[2]["ahead_p95"]
    assert all(meaning(key) for key in found)


def test_bench_writes_every_policy_at_every_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livemind.benchmarks.placement.bench.QUICK", 50)
    file = tmp_path / "report.json"
    assert cli.main(["placement", "--quick", "--json", str(file)]) == 0
    content = json.loads(file.read_text())
    assert [(c["level"], c["policy"]) for c in content["cases"]] == [
        (level, policy) for level in LEVELS for policy in POLICIES
    ]
    assert content["summary"] == summarise(content["cases"])
    assert [chart.name for chart in charts(content)] == ["placement-cached", "placement-queue"]
