"""Recorded partials through the harness, against a server that tells what it was sent."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from livemind.benchmarks.bench import UsageError
from livemind.benchmarks.figures.answer import Answer
from livemind.benchmarks.figures.measure import Slo, row
from livemind.benchmarks.figures.turns import Turn
from livemind.benchmarks.harness.client import Client
from livemind.benchmarks.harness.experts import RANDOM, ROUTED, handbook_config
from livemind.benchmarks.harness.targets import Targets
from livemind.benchmarks.ttft.meaning import meaning
from livemind.benchmarks.ttft.options import add_arguments, requested
from livemind.benchmarks.ttft.run import TtftRun
from livemind.benchmarks.ttft.samples import samples, speech_samples
from livemind.benchmarks.ttft.summary import report_cases, report_turns, speech_summary
from livemind.benchmarks.ttft.tables import tables
from livemind.benchmarks.ttft.targets import livemind_doors
from livemind.benchmarks.workload.arms import Arm
from livemind.benchmarks.workload.plan import FINAL_AT_END, SPEECH, Plan
from livemind.orchestrator.config.settings import Settings

from ..scripted_server import ScriptedServer


def _line(utterance: str, t_ms: float, text: str, *, final: bool = False) -> str:
    return json.dumps({"id": utterance, "t_ms": t_ms, "text": text, "final": final})


@pytest.fixture
def file(tmp_path: Path) -> str:
    lines = [
        _line("a", 5, "what"),
        _line("a", 10, "what is"),
        _line("a", 30, "What is it?", final=True),
        _line("b", 5, "who."),
        _line("b", 20, "Who is it?", final=True),
    ]
    found = tmp_path / "spoken.jsonl"
    found.write_text("\n".join(lines))
    return str(found)


def _plan(*arguments: str) -> Plan:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return requested(parser.parse_args(arguments)).plan


async def _run(server: ScriptedServer, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> TtftRun:
    monkeypatch.setattr("livemind.benchmarks.ttft.run.WARM_UP_PAUSE_S", 0.0)
    monkeypatch.setattr("livemind.benchmarks.ttft.run.WARM_UP_CPM", 600_000.0)
    async with server.serving() as url, Client(url, timeout_s=20.0) as client:
        run = TtftRun(plan, lambda text, done: None)
        await run.run(Targets(livemind_doors(client)))
    return run


async def test_recording_partials_go_out_as_they_are_and_the_final_text_is_the_commit(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ScriptedServer()
    run = await _run(server, _plan("--cadence", file, "--commit-after-ms", "own"), monkeypatch)
    assert server.typed[-2:] == ["what is", "who."]  # nothing behind them, "who." is no sentence
    asked = {turn.text for block in _blocks(run) for turn in block.turns}
    assert asked == {"What is it?", "Who is it?"}
    assert {(u["model"], u["retrieval"], u["speculation"]) for u in server.updates} == {
        ("auto", True, "draft")
    }
    assert [u["input"] for u in server.updates] == [{"kind": "transcript"}] * len(server.updates)
    chats = [chat["messages"][-1]["content"] for chat in server.chats]
    assert chats[-2:] == ["What is it?", "Who is it?"]
    assert run.done == run.plan.steps() == 4


async def test_recording_with_documents_brings_them_along_and_retrieves_nothing(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ScriptedServer()
    given = ("--cadence", file, "--commit-after-ms", "own", "--documents", "60")
    run = await _run(server, _plan(*given), monkeypatch)
    assert {(u["retrieval"], bool(u["documents"])) for u in server.updates} == {(False, True)}
    [case] = report_cases(run.results.values(), Slo(None, None), overlap=False, seed=1)
    assert "ttft.speech.spoken_documents_60.adopted_share" in speech_summary([case])


async def test_recording_commits_when_the_arm_says(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan("--cadence", file, "--commit-after-ms", "own,0,50", "--turns", "1")
    run = await _run(ScriptedServer(), plan, monkeypatch)
    waits = {turn.arm.id: turn.think_s for block in _blocks(run) for turn in block.turns}
    own_s = plan.recordings[0].utterances[0].silence_s
    assert waits == {"request-at-end": own_s, "speech": own_s, "speech-0": 0.0, "speech-50": 0.05}


async def test_recording_early_asks_every_live_arm_with_early_documents_too(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan("--cadence", file, "--commit-after-ms", "own,0", "--early", "--turns", "1")
    told = {arm.id: arm.consistency for arm in plan.arms}
    plain = {"request-at-end": None, "speech": None, "speech-0": None}
    assert told == {**plain, "speech-early": "early", "speech-0-early": "early"}
    run = await _run(ScriptedServer(chat_s=0.1), plan, monkeypatch)
    found = speech_summary(report_cases(run.results.values(), Slo(), overlap=False, seed=1))
    for stem in ("early.", "after_0ms.early."):
        assert found[f"ttft.speech.spoken.{stem}drafted_share"] == 1.0
    assert [key for key in found if not meaning(key)] == []


async def test_recording_report_has_its_summary_and_every_number_a_meaning(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan("--cadence", file, "--commit-after-ms", "own,0")
    run = await _run(ScriptedServer(chat_s=0.1), plan, monkeypatch)
    cases = report_cases(run.results.values(), Slo(), overlap=False, seed=1)
    found = speech_summary(cases)
    assert 0 < found["ttft.speech.spoken.live_over_request_at_end.p50"] < 1  # type: ignore[operator]
    assert found["ttft.speech.spoken.after_0ms.drafted_share"] == 1.0
    assert found["ttft.speech.spoken.route_settled_share"] == 0.0
    assert [key for key in found if not meaning(key)] == []
    turns = report_turns(run.results.values())
    behind = samples({"cases": cases, "turns": turns})
    assert {key: behind[key].value() for key in found} == found  # what `bench compare` judges
    arms = {arm.id: {"title": arm.title} for arm in plan.arms}
    [table] = [
        one
        for one in tables({"cases": cases, "turns": turns, "arms": arms})
        if one.title.startswith("Prepared while it was said")
    ]
    assert table.columns == ("", "speech", "speech-0")
    assert table.title.endswith("spoken, passages of the handbook")


def _blocks(run: TtftRun) -> list[Any]:
    return [block for result in run.results.values() for block in result.blocks]


def _row(arm: Arm, number: int, *events: tuple[float, dict[str, Any]], **told: Any) -> Any:
    answer = Answer("completed", committed_s=10.0, events=list(events), **told)
    return row("case", number, "auto", Turn(arm, number, 0, 0, "What?", 0.0, answer))


def test_speech_samples_tell_work_before_the_commit_from_work_after_it() -> None:
    before, after = 9.0, 11.0
    route = {"type": "route.updated", "expert": "x"}
    lost = {"type": "draft.discarded", "reason": "input changed"}
    rows = [
        _row(
            SPEECH,
            0,
            (before, route),
            (before, {"type": "draft.created", "expert": "x"}),
            (after, {**lost, "tokens": 3}),
            verified_tokens=1,
            prompt_tokens=100,
            cached_tokens=80,
            timings={"route_lead_ms": 5.0},
            ledger={"cost_multiplier": 2.0},
            documents={"before": ["x"], "behind": []},
        ),
        _row(
            SPEECH,
            1,
            (after, route),
            (before, {**lost, "tokens": 0}),
            verified_tokens=2,  # the fast expert's, as the draft had no token
            documents={"before": ["y"], "behind": []},
        ),
        *(_row(FINAL_AT_END, n, documents={"before": ["x"], "behind": []}) for n in (0, 1)),
    ]
    found = {key: one.value() for key, one in speech_samples(rows, SPEECH.id).items()}
    assert {key for key, value in found.items() if value == 0.5} == {
        "drafted_share",
        "route_settled_share",
        "unprepared_share",
        "same_documents_share",
        "events_per_turn.route_updated",
        "events_per_turn.draft_created",
        "events_per_turn.draft_discarded",
    }
    assert (found["prompt_ready.p50"], found["cost_multiplier.p50"]) == (0.8, 2.0)
    assert (found["adopted_share"], found["drafts_lost.input_changed"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cadence", "whisper,typing-400"], "--cadence: typing-400 is no recording"),
        (["--cadence", "whisper", "--quick"], "--quick: not together with a recording"),
        (["--cadence", "whisper", "--prompts", "x"], "--prompts: not together"),
        (["--cadence", "paste", "--commit-after-ms", "0"], "only with a recording"),
        (["--cadence", "paste", "--early"], "--early: only with a recording"),
        (
            ["--cadence", "es", "--expert", "random", "--expert", "embedded"],
            "--expert: one at a time",
        ),
    ],
)
def test_recording_options_that_say_nothing_are_refused_by_name(
    arguments: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        _plan(*arguments)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [("soon", "got 'soon', need int"), ("-1", "got -1, need >= 0"), ("9999999", "<= 3600000")],
)
def test_recording_commit_that_is_no_time_is_refused_by_name(
    wrong: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        _plan("--cadence", "whisper", f"--commit-after-ms={wrong}")
    shown = capsys.readouterr().err
    assert "argument --commit-after-ms: " in shown
    assert told in shown


@pytest.mark.parametrize(("expert", "count"), [(ROUTED, 5), (RANDOM, 1)], ids=lambda x: str(x)[:6])
def test_handbook_config_has_every_expert_loaded_and_the_handbook(expert: Any, count: int) -> None:
    settings = Settings.model_validate(handbook_config(expert, "http://127.0.0.1:1"))
    assert len(settings.experts) == settings.lazy_loading.max_loaded_experts == count
    assert (settings.rag.enabled, settings.rag.corpus) == (True, None)
    assert settings.rag.bridge_url == "http://127.0.0.1:1"
