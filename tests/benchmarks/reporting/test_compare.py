from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from livemind.benchmarks import cli
from livemind.benchmarks.figures.stats import p50, quantile
from livemind.benchmarks.reporting.differences import (
    Comparison,
    Difference,
    better_is,
    compare,
    samples_of,
)
from livemind.benchmarks.reporting.reports import Report

from ..ttft_content import content

Json = dict[str, Any]


@pytest.fixture(scope="module")
def base() -> Report:
    return Report(Path("a.json"), content())


def _compare(a: Report, b: Json) -> tuple[Comparison, dict[str, Difference]]:
    found = compare(a, Report(Path("b.json"), b))
    return found, {one.key: one for one in found.differences}


def test_samples_yield_every_number_that_turns_can_tell() -> None:
    """The formulas of the summary are written twice; here they meet."""
    report = Report(Path("a.json"), content(conversations=12, experts=("random", "embedded")))
    known = {key for key, value in report.summary.items() if value is not None}
    assert len(known) > 20
    assert any(key.endswith(".embedded") for key in known)
    assert known - set(samples_of(report)) == set()


def test_samples_that_disagree_with_the_summary_are_not_used(base: Report) -> None:
    key = "ttft.E_over_A.p50"
    changed = {**base.content, "summary": {**base.summary, key: 0.5}}
    assert key not in samples_of(Report(base.file, changed))


def test_compare_slower_arm_is_worse_by_paired_conversations(base: Report) -> None:
    _, keys = _compare(base, content(slower={"E": 1.05}))
    for key in ("ttft.E_over_A.p50", "ttft.ms.E.p50", "ttft.ms.E.p95"):
        assert keys[key].verdict == "worse"
        assert keys[key].paired is True
    assert keys["ttft.E_over_A.p50"].ratio == pytest.approx(1.05, abs=0.02)
    assert keys["ttft.B_over_A.p50"].verdict == "no difference shown"
    assert keys["ttft.identical_share"].verdict == "no difference shown"


def test_compare_faster_arm_is_better(base: Report) -> None:
    _, keys = _compare(base, content(slower={"B": 0.9}))
    assert keys["ttft.B_over_A.p50"].verdict == "better"
    assert keys["ttft.ms.B.p50"].difference is not None
    assert keys["ttft.ms.B.p50"].difference < 0.0


def test_compare_other_seed_is_not_paired(base: Report) -> None:
    found, keys = _compare(base, content(seed=2, slower={"E": 1.05}))
    assert keys["ttft.ms.E.p50"].paired is False
    assert keys["ttft.ms.E.p50"].verdict == "no difference shown"
    assert any("seed differs: 1 in A, 2 in B" in warning for warning in found.warnings)


def test_compare_other_configuration_is_not_paired_and_named(base: Report) -> None:
    other = content()
    other["config"]["max_tokens"] = 64
    found, keys = _compare(base, other)
    assert "config.max_tokens differs: 32 in A, 64 in B" in found.warnings
    assert keys["ttft.ms.E.p50"].paired is False


def test_compare_arms_of_one_run_only_do_not_unpair_the_others(base: Report) -> None:
    a, b = content(), content()
    a["config"] |= {"cold_cache": {"A": "salt", "V": "line"}, "arm_definitions": [{"id": "V"}]}
    b["config"] |= {"cold_cache": {"A": "salt"}, "arms": ["A"], "arm_definitions": [{"id": "A"}]}
    found, keys = _compare(Report(base.file, a), b)
    assert keys["ttft.ms.E.p50"].paired is True
    assert [w for w in found.warnings if "cold" in w or "definition" in w] == []
    b["config"]["cold_cache"] = {"A": "none"}
    found, keys = _compare(Report(base.file, a), b)
    assert keys["ttft.ms.E.p50"].paired is False
    assert "config.cold cache of A differs: salt in A, none in B" in found.warnings


def test_compare_more_turns_of_the_same_are_paired_where_shared(base: Report) -> None:
    _, keys = _compare(base, content(conversations=60))
    interval = keys["ttft.ms.E.p50"].interval
    assert interval is not None
    assert interval.units == 60
    assert keys["ttft.ms.E.p50"].paired is True


def test_compare_few_turns_have_no_verdict_and_say_why(base: Report) -> None:
    _, keys = _compare(base, content(conversations=20))
    assert keys["ttft.ms.E.p95"].verdict == "not judged"
    assert "need 59" in keys["ttft.ms.E.p95"].why
    assert keys["ttft.ms.E.p50"].verdict == "no difference shown"


def test_compare_warns_of_everything_that_makes_it_unfair(base: Report) -> None:
    other = content()
    other |= {"interrupted": True, "failure": "no server", "commit": "0123abc+changes"}
    other["machine"] |= {"cpu": "two", "load_average_1m": 5.0}
    other["versions"]["vllm"] = "0.32"
    found, _ = _compare(base, other)
    for told in (
        "machine.cpu differs: one in A, two in B",
        "versions.vllm differs: unknown in A, 0.32 in B",
        "B was interrupted",
        "B could not go on: no server",
        "B ran a source tree with uncommitted changes",
        "B began on a busy machine: load 5.0 on 2 cores",
    ):
        assert any(told in warning for warning in found.warnings), told


def _load(base: Report, on: float) -> Report:
    """Return a load report: two rungs, 60 turns per mode, speculation ``on`` times as long."""
    rng = random.Random(4)
    rows: list[Json] = []
    for sessions in (1, 8):
        for user in range(60):
            hard = sessions * rng.uniform(50.0, 150.0)
            common: Json = {"sessions": sessions, "round": 0, "user": user, "turn": 0}
            common["outcome"] = "completed"
            rows.append({**common, "mode": "off", "ttft_ms": hard})
            rows.append({**common, "mode": "on", "ttft_ms": hard * on * rng.uniform(0.98, 1.02)})
    top = {
        mode: [row["ttft_ms"] for row in rows if (row["sessions"], row["mode"]) == (8, mode)]
        for mode in ("on", "off")
    }
    turns = [one / other for one, other in zip(top["on"], top["off"], strict=True)]
    levels = {
        f"load.on_over_off.{name}": quantile(top["on"], q) / quantile(top["off"], q)  # type: ignore[operator]
        for name, q in (("p50", 0.5), ("p95", 0.95))
    }
    summary = {**levels, "load.on_over_off.turns_p50": p50(turns), "load.failed": 0.0}
    return Report(base.file, {**base.content, "name": "load", "turns": rows, "summary": summary})


def test_compare_load_reports_by_the_turns_of_the_highest_rung(base: Report) -> None:
    one, other = _load(base, 1.0), _load(base, 1.1)
    assert set(samples_of(one)) == set(one.summary) - {"load.failed"}
    keys = {found.key: found for found in compare(one, other).differences}
    assert keys["load.on_over_off.turns_p50"].verdict == "worse"
    assert keys["load.on_over_off.p50"].verdict == "worse"
    interval = keys["load.on_over_off.p95"].interval
    assert interval is not None
    assert interval.units == 60
    assert keys["load.failed"].verdict == "equal"


def test_compare_benchmark_without_turns_has_differences_and_no_verdict(base: Report) -> None:
    one = {**base.content, "name": "routing", "summary": {"routing.ece": 0.1, "routing.x": None}}
    other = {**one, "summary": {"routing.ece": 0.05, "routing.x": 1.0}}
    found = compare(Report(Path("a"), one), Report(Path("b"), other))
    ece, unknown = found.differences
    assert ece.difference == pytest.approx(-0.05)
    assert ece.verdict == "not judged"
    assert unknown.difference is None
    assert unknown.why == "not known in A"


@pytest.mark.parametrize(
    ("key", "way"),
    [
        ("ttft.E_over_A.p95", "lower"),
        ("ttft.ms.E.p50", "lower"),
        ("waste.cost_multiplier.E", "lower"),
        ("load.on_over_off.p95", "lower"),
        ("load.bend_sessions.on", "higher"),
        ("load.failed", "lower"),
        ("gateway.added_ms.p50", "lower"),
        ("routing.ece", "lower"),
        ("routing.stable.median_share_of_input", "lower"),
        ("routing.update_ms.p95", "lower"),
        ("gateway.rps_over_litellm", "higher"),
        ("routing.accuracy_over_aurelio", "higher"),
        ("ttft.identical_share", "higher"),
        ("retrieval.hnsw_recall10", "higher"),
        ("retrieval.dense_ms.p50_100k", "lower"),
        ("kernels.dot.1024.speedup_vs_numpy", "higher"),
        ("kernels.dot.1024.share_of_limit", "higher"),
        ("plugin.tokens_per_s_gain.greedy", "higher"),
        ("consensus.draft.completion_speedup.p50", "higher"),
        ("consensus.vote.settled_before_commit_share", "higher"),
        ("something.else", None),
    ],
)
def test_better_is_known_for_the_names_of_the_summaries(key: str, way: str | None) -> None:
    assert better_is(key) == way


def _write(file: Path, report: object) -> Path:
    file.write_text(json.dumps(report))
    return file


def test_compare_command_writes_json_and_page(
    base: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = _write(tmp_path / "a.json", base.content)
    other = _write(tmp_path / "b.json", content(slower={"E": 1.05}))
    out, page = tmp_path / "c.json", tmp_path / "c.html"
    assert cli.main(["compare", str(one), str(other), "--json", str(out), "--html", str(page)]) == 0
    written = json.loads(out.read_text())
    assert written["schema"] == "livemind.bench-compare/1"
    found = written["keys"]["ttft.E_over_A.p50"]
    assert found["verdict"] == "worse"
    assert found["interval"]["low"] > 0
    assert 'class="worse">worse' in page.read_text()
    assert "worse" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "other/2"}, "schema: got 'other/2', need 'livemind.bench/1'"),
        ({"name": "load"}, "name: got 'load', need 'ttft'"),
        ({"summary": {"x": "fast"}}, "summary.x: got 'fast', need a number or null"),
        ({"summary": {"x": float("nan")}}, "summary.x: got nan"),
        ({"machine": None}, "machine: missing or not a dict"),
        ({"turns": [{}]}, "not a whole ttft report"),
    ],
    ids=["schema", "name", "text", "nan", "part", "turns"],
)
def test_compare_command_refuses_what_is_no_report_by_name(
    base: Report,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Json,
    message: str,
) -> None:
    one = _write(tmp_path / "a.json", base.content)
    other = _write(tmp_path / "b.json", {**base.content, **change})
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["compare", str(one), str(other)])
    assert exit_info.value.code == 2
    told = capsys.readouterr().err
    assert "b.json" in told
    assert message in told


def test_compare_command_refuses_a_file_that_is_not_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.json"
    file.write_text("[" * 100_000)
    with pytest.raises(SystemExit):
        cli.main(["compare", str(file), str(tmp_path / "none.json")])
    assert "a.json: not JSON" in capsys.readouterr().err


def test_compare_other_workload_is_said_first_and_nothing_is_judged(base: Report) -> None:
    other = content(slower={"E": 1.05})
    asked = {"experts": ["random"], "documents_tokens": [1500]}
    other["config"] |= {"random_params": 25_000_000, **asked}
    old = Report(base.file, {**base.content, "config": base.content["config"] | asked})
    found, keys = _compare(old, other)
    assert found.warnings[0] == (
        "another workload: {'parameters': 100000000, 'documents_tokens': 1500} in A, "
        "{'parameters': 25000000, 'documents_tokens': 1500} in B"
    )
    assert {one.verdict for one in keys.values()} == {"not judged"}
    assert keys["ttft.E_over_A.p50"].why == "another workload"
