from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from livemind.benchmarks import cli
from livemind.benchmarks.figures.answer import Answer
from livemind.benchmarks.figures.turns import BlockResult, Turn
from livemind.benchmarks.names import AFTERWARDS, BENCHES
from livemind.benchmarks.ttft.run import TtftRun
from livemind.benchmarks.workload.plan import PASTE, REQUEST_AT_END
from livemind.orchestrator.client.events import ServedModel

from .scripted_server import ScriptedServer


@pytest.fixture
def url() -> Iterator[str]:
    """A fake server on a thread of its own: ``main`` runs its own event loop."""
    ready, found = threading.Event(), []

    async def serve() -> None:
        async with ScriptedServer().serving() as address:
            stop = asyncio.Event()
            found.append((address, asyncio.get_running_loop(), stop))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    address, loop, stop = found[0]
    yield address
    loop.call_soon_threadsafe(stop.set)
    thread.join()


def _main(url: str, file: Path, *more: str) -> int:
    arguments = ["ttft", "--quick", "--turns", "1", "--expert", "random", "--cpm", "60000"]
    return cli.main([*arguments, "--case", "paste", "--base-url", url, "--json", str(file), *more])


def test_ttft_writes_the_report_in_the_common_shape(url: str, tmp_path: Path) -> None:
    file = tmp_path / "ttft.json"
    assert _main(url, file) == 0
    report = json.loads(file.read_text())
    wanted = "schema name commit machine versions seed config arms harness cases turns summary"
    assert set(wanted.split()) <= report.keys()
    assert report["interrupted"] is False
    assert report["config"]["turns"] == 1
    assert report["summary"]["ttft.live_over_request_at_end.p50"] is None
    assert report["summary"]["ttft.paste_over_request_at_end.p50"] > 0
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["instruction_sets"]
    assert report["machine"]["kernels"]
    assert report["machine"]["turn_costs"]["source"] in ("probe", "flags")
    assert report["dtypes"] == {}  # the fake has no /stats
    assert report["config"]["workload"] is None  # a server that runs is asked as it is
    assert set(report["versions"]) >= {"python", "livemind", "torch", "vllm"}


def test_ttft_prints_every_number_with_its_meaning(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    _main(url, tmp_path / "ttft.json")
    shown = capsys.readouterr().out
    assert "random weights" in shown
    lines = [line.strip() for line in shown.splitlines()]
    for key in json.loads((tmp_path / "ttft.json").read_text())["summary"]:
        number = next(n for n, line in enumerate(lines) if line.endswith(f" {key}"))
        assert len(lines[number + 1].split()) >= 5


def test_ttft_interrupted_keeps_what_was_measured(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(run: TtftRun, *_: object) -> None:
        done = Answer(outcome="completed", text="x", committed_s=1.0, pieces_s=[1.5])
        block = BlockResult(run.plan.blocks[0])
        block.turns.extend(Turn(a, 0, 0, 0, "", 0.0, done) for a in (REQUEST_AT_END, PASTE))
        next(iter(run.results.values())).blocks.append(block)
        raise KeyboardInterrupt

    monkeypatch.setattr(TtftRun, "run", interrupted)
    file = tmp_path / "ttft.json"
    assert _main(url, file) == 130
    report = json.loads(file.read_text())
    assert report["interrupted"] is True
    assert report["summary"]["ttft.paste_over_request_at_end.p50"] == 1.0


def test_ttft_arm_without_a_finished_turn_fails_the_run(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def failing(run: TtftRun, *_: object) -> None:
        done = Answer(outcome="completed", text="x", committed_s=1.0, pieces_s=[1.5])
        lost = Answer(outcome="error", error="no token for 120 s")
        block = BlockResult(run.plan.blocks[0])
        block.turns.append(Turn(REQUEST_AT_END, 0, 0, 0, "", 0.0, done))
        block.turns.append(Turn(PASTE, 0, 0, 0, "", 0.0, lost))
        next(iter(run.results.values())).blocks.append(block)

    monkeypatch.setattr(TtftRun, "run", failing)
    file = tmp_path / "ttft.json"
    assert _main(url, file) == 1
    failure = "no finished turn: arm paste of random/typing-60000/1500"
    assert json.loads(file.read_text())["failure"] == failure
    assert f"bench ttft: {failure}" in " ".join(capsys.readouterr().out.split())


def test_ttft_server_without_the_expert_fails_by_name(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_models(_: object) -> tuple[ServedModel, ...]:
        return (ServedModel("other"),)

    monkeypatch.setattr("livemind.benchmarks.harness.client.Client.models", no_models)
    assert _main(url, tmp_path / "ttft.json") == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "does not serve random-100m, only other: choose with --model" in said
    assert not (tmp_path / "ttft.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--turns", "0"], "--turns: got 0, need >= 1"),
        (["--cpm", "-1"], "--cpm: got 'typing--1'"),
        (["--cadence", "typing-400,sung"], "--cadence: got 'sung', need one of typing-240"),
        (["--arm", "live"], "--arm"),
        (["--arms", "L,X"], "--arms: got 'X', need some of A, V, L"),
        (["--arms", "A", "--base-url", "http://x"], "--arms: A: the bare engine runs here"),
        (["--documents", "1,x"], "--documents: got 'x'"),
        (["--rate", "2"], "--rate: only with --arrivals"),
        (["--arrivals", "poisson"], "--rate: got None, need > 0"),
        (["--concurrency", "0"], "--concurrency: got 0"),
        (["--quick", "--arms", "L"], "--arms: not together with --quick"),
        (["--case", "live"], "--case: only with --quick"),
        (["--slo-ttft-ms", "0"], "--slo-ttft-ms: got 0.0, need > 0"),
        (["--params", "1x"], "--params: parameters: got '1x', need a number such as 500k"),
        (["--params", "9k"], "--params: parameters: got '9k', need 400k to 4b"),
        (
            ["--base-url", "http://x", "--model", "m", "--params", "9m"],
            "--params: not together with --model",
        ),
        (["--model", "m"], "--model: only with --base-url"),
        (["--base-url", "localhost:8000"], "--base-url: got localhost:8000, need http"),
        (["--base-url", "http://x", "--api-key-env", "NO_SUCH_KEY_1"], "--api-key-env: the env"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_ttft_bad_option_is_refused_by_name(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["ttft", *arguments])
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_ttft_terminated_keeps_what_was_measured_like_an_interrupt(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def terminated(_: TtftRun, *__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(10)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(TtftRun, "run", terminated)
    file = tmp_path / "ttft.json"
    assert _main(url, file) == 130
    assert json.loads(file.read_text())["interrupted"] is True
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("name", sorted(BENCHES.keys() - AFTERWARDS))
def test_bench_refuses_a_report_that_could_not_be_written_before_it_measures(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([name, "--json", "/nowhere/x.json"])
    assert "--json: there is no folder /nowhere" in capsys.readouterr().err
