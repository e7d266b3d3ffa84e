"""The load ladder on a fake server, its figures and its options; peers that cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livemind.benchmarks import cli
from livemind.benchmarks.figures.answer import Answer
from livemind.benchmarks.harness.client import Client
from livemind.benchmarks.load import summary as load_summary
from livemind.benchmarks.load.sessions import Ladder, LadderPlan, LadderResult, Mode, Turn
from livemind.benchmarks.peers import run
from livemind.benchmarks.peers.programs import Absent, Peer, installed

from ..scripted_server import ScriptedServer

PLAN = LadderPlan(
    "technical",
    rungs=(1, 2),
    rounds=1,
    turns=2,
    documents_tokens=20,
    chars_per_minute=60_000.0,
    stop_factor=1e9,
)


async def climb(server: ScriptedServer, plan: LadderPlan = PLAN) -> LadderResult:
    result = LadderResult(plan)
    async with server.serving() as url, Client(url) as client:
        await Ladder(client, result, lambda text, done: None).climb()
    return result


async def test_ladder_asks_the_same_in_both_modes_on_every_rung() -> None:
    server = ScriptedServer()
    result = await climb(server)
    assert len(result.turns) == PLAN.steps() == 12
    assert result.stopped_by is None
    places: dict[Mode, list[Any]] = {"on": [], "off": []}
    for turn in result.turns:
        places[turn.mode].append(turn.place)
    assert sorted(places["on"]) == sorted(places["off"])
    speculation = [update["speculation"] for update in server.updates]
    assert speculation.count("off") == speculation.count("draft")
    assert len({update["cache_salt"] for update in server.updates}) == len(server.updates)


async def test_ladder_failed_turn_ends_it_and_is_counted() -> None:
    result = await climb(ScriptedServer(fail_live_turns=frozenset({3})))
    assert result.stopped_by == "1 turns failed at 1 sessions"
    assert {turn.sessions for turn in result.turns} == {1}
    assert load_summary.summary(result)["load.failed"] == 1.0


def made(sessions: int, mode: Mode, user: int, ttft_ms: float) -> Turn:
    answer = Answer(outcome="completed", committed_s=0.0, pieces_s=[ttft_ms / 1000.0])
    return Turn(sessions, 0, mode, user, 0, answer)


def test_summary_ratio_is_taken_at_the_highest_rung_and_the_bend_where_p95_doubles() -> None:
    result = LadderResult(PLAN)
    for sessions, off, on in ((1, 100.0, 20.0), (2, 150.0, 120.0), (3, 400.0, 420.0)):
        for user in range(4):
            result.turns += [made(sessions, "off", user, off), made(sessions, "on", user, on)]
    summary = load_summary.summary(result)
    assert summary["load.on_over_off.p95"] == pytest.approx(1.05)
    assert summary["load.on_over_off.turns_p50"] == pytest.approx(1.05)
    assert summary["load.on_over_off.p95.worst_rung"] == pytest.approx(1.05)
    assert summary["load.saturation_sessions"] == 3.0
    assert summary["load.bend_sessions.off"] == 3.0
    assert summary["load.bend_sessions.on"] == 2.0


def test_summary_without_turns_is_unknown() -> None:
    assert load_summary.summary(LadderResult(PLAN))["load.on_over_off.p95"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "sesions"], "--parts: got 'sesions'"),
        (["--sessions", "4,2"], "--sessions: got '4,2'"),
        (["--sessions", "0"], "ascending numbers from 1 to 512"),
        (["--cpm", "1"], "--cpm: got 1.0, need >= 30.0 and <= 60000.0"),
        (["--json", "/nowhere/x.json"], "there is no folder /nowhere"),
    ],
)
def test_load_bad_option_is_named_with_value_and_limit(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["load", *arguments])
    assert message in capsys.readouterr().err


async def test_peer_that_cannot_be_installed_is_absent_with_the_reason(tmp_path: Path) -> None:
    said: list[str] = []
    peer = Peer("nothing", "./no-such-folder")  # a path, so that no index is asked
    found = await installed(peer, said.append, tmp_path)
    assert isinstance(found, Absent)
    assert "./no-such-folder cannot be installed" in found.reason
    assert said == [f"installing ./no-such-folder into {tmp_path / 'nothing'}"]


def test_peers_summary_pairs_by_question_and_leaves_out_failures() -> None:
    result = run.PeersResult(1)
    for number, base in enumerate((100.0, 200.0, 400.0)):
        result.answers["vllm"][number] = made(1, "off", 0, base).answer
        result.answers["livemind"][number] = made(1, "off", 0, base * 1.1).answer
    result.answers["livemind"][1] = Answer(outcome="error", error="gone")
    summary = run.summary(result)
    assert summary["peers.livemind_over_vllm.p50"] == pytest.approx(1.1)
    assert summary["peers.litellm_over_vllm.p50"] is None
    assert run.report(result)["arms"]["livemind"]["completed"] == 2
