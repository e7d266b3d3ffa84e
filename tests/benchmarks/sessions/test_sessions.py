"""People who type at real gateways with a remote expert of known latency."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from livemind.benchmarks.cli import main
from livemind.benchmarks.sessions import bench
from livemind.benchmarks.sessions.expert import PrefillServer
from livemind.benchmarks.sessions.typist import joined
from livemind.benchmarks.workload.typing_model import Key


def test_words_are_sent_whole_at_the_time_of_their_last_key() -> None:
    keys = [Key(float(n), letter) for n, letter in enumerate("hi to you")]
    assert list(joined(keys)) == [Key(2.0, "hi "), Key(5.0, "to "), Key(8.0, "you")]


def test_words_before_a_replacement_are_sent_first() -> None:
    keys = [Key(0.0, "a"), Key(1.0, "b"), Key(2.0, "xy", replaces=True), Key(3.0, "z")]
    assert list(joined(keys)) == [Key(1.0, "ab"), Key(2.0, "xy", replaces=True), Key(3.0, "z")]


@pytest.mark.parametrize(
    ("fields", "tokens", "after_s"),
    [({"max_tokens": 1}, 1, [0.0]), ({"stream": True}, 4, [0.5, 0.6, 0.7, 0.8])],
)
def test_expert_prefills_at_once_and_answers_after_its_latency(
    fields: dict[str, Any], tokens: int, after_s: list[float]
) -> None:
    server = PrefillServer(0.5, 4, 0.1)
    asked = {"messages": [{"role": "user", "content": "x" * 40}], **fields}
    writes = list(server.chat(asked))
    assert [round(at_s, 3) for at_s, _ in writes] == after_s
    content = b"".join(part for _, parts in writes for part in parts)
    assert b'"prompt_tokens":14,' in content
    assert b'"completion_tokens":%d,' % tokens in content
    left_open = {**asked, "continue_final_message": True}
    told = b"".join(part for _, parts in server.chat(left_open) for part in parts)
    assert b'"prompt_tokens":10,' in told


def test_summary_subtracts_the_experts_latency_and_idle_time() -> None:
    case = {
        "route_ms": [10.0, 20.0],
        "ttft_ms": [103.0, 105.0],
        "drafted_ttft_ms": [1.0, 2.0],
        "frames": 600,
        "ended": {"completed": 4, "failed": 1, "lost": 2},
        "idle_cores": [0.1, 0.0],
        "busy_cores": [0.5, 0.75],
        "harness_late_ms_p95": 1.0,
    }
    found = bench.summarise(bench.Plan(seconds=2.0, latency_ms=100.0), case)
    assert found["sessions.cpu_cores.most"] == 0.75
    assert found["sessions.cpu_cores.sum"] == pytest.approx(1.15)
    assert found["sessions.added_ms.p50"] == 4.0
    assert found["sessions.drafted_share"] == 0.5
    assert (found["sessions.turns_per_s"], found["sessions.frames_per_s"]) == (2.0, 300.0)
    assert found["sessions.failed"] == 3.0


def test_few_people_at_two_gateways_are_all_answered(tmp_path: Path) -> None:
    report = tmp_path / "sessions.json"
    asked = ["--sessions", "6", "--gateways", "2", "--seconds", "3", "--cpm", "6000", "--quick"]
    assert main(["sessions", *asked, "--latency-ms", "20", "--json", str(report)]) == 0
    told = json.loads(report.read_text())
    [case] = told["cases"]
    assert case["errors"] == {}
    assert set(case["ended"]) == {"completed"}
    assert len(case["busy_cores"]) == 2
    assert case["route_ms"]
    summary = told["summary"]
    assert summary["sessions.failed"] == 0
    assert summary["sessions.frames_per_s"] > 0
    assert set(summary) == set(bench.MEANING)


def test_gateway_that_is_not_there_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sessions", "--quick", "--sessions", "1", "--url", "http://127.0.0.1:9"]) == 1
    assert "a session was not opened" in capsys.readouterr().out


def test_options_refuse_what_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--sessions", "0"])
    assert "got 0, need >= 1 and <= 50000" in capsys.readouterr().err
