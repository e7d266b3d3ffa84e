"""Where the wait bends under load, with speculation and without; what the gateway itself costs.

Parts: sessions (live sessions on the random-weight expert), gateway (LiveMind and LiteLLM in front
of a fake expert), peers (vLLM, LiteLLM and LiveMind on one workload), third-party (the harness
against `vllm bench serve`).
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from rich.console import Console

from ..bench import add_common, checked, display, number, scratch, some_of
from ..figures.answer import Json
from ..figures.table import show
from ..gateway import run as gateway, summary as gateway_summary
from ..harness import report
from ..harness.client import Client
from ..harness.doors import UNREACHABLE
from ..harness.experts import RANDOM, prepare, server_config
from ..harness.server_process import running
from ..peers import run as peers_run, third_party
from . import summary as load_summary
from .sessions import Ladder, LadderPlan, LadderResult
from .tables import tables

Say = Callable[[str | None, int], None]
PARTS = ("sessions", "gateway", "peers", "third-party")
DEFAULT_PARTS = ("sessions", "gateway")
MOST_SESSIONS = 512
QUICK_LADDER = LadderPlan(
    RANDOM.expert_id,
    rungs=(1, 4, 16),
    rounds=1,
    turns=2,
    documents_tokens=500,
    chars_per_minute=1200.0,
)
QUICK_GATEWAY = gateway.GatewayPlan(rounds=1, seconds=2.0)
MEANING = {
    "load.on_over_off.p95": "p95 of the wait at saturation, speculation on over off (1 = no harm)",
    "load.on_over_off.p95.worst_rung": "the same on the rung where it is worst",
    "load.bend_sessions.off": "sessions at which p95 has doubled, speculation off",
    "load.bend_sessions.on": "the same, speculation on",
    "gateway.added_ms.p50": "what LiveMind adds to an answer, the worse of whole and streamed",
    "gateway.rps_over_litellm": "requests per second of one core over LiteLLM's, the worse of both",
    "harness.vs_third_party.p50": "our TTFT over that of vllm bench serve, same server",
}


@dataclass(slots=True)
class Measured:
    """What each part has shown so far."""

    ladder: LadderResult | None = None
    gateway: gateway.GatewayResult | None = None
    peers: peers_run.PeersResult | None = None
    third_party: third_party.ThirdPartyResult | None = None

    def parts(self) -> Json:
        """Return what the report has of every part, and the summary of those asked for."""
        climbed, gate, peers, other = self.ladder, self.gateway, self.peers, self.third_party
        return {
            "cases": load_summary.rungs(climbed) if climbed else [],
            "stopped_by": climbed.stopped_by if climbed else None,
            "turns": climbed.rows() if climbed else [],
            "gateway": gateway_summary.report(gate) if gate else None,
            "peers": peers_run.report(peers) if peers else None,
            "third_party": third_party.report(other) if other else None,
            "summary": {
                **(load_summary.summary(climbed) if climbed else {}),
                **(gateway_summary.summary(gate.measurements) if gate else {}),
                **(peers_run.summary(peers) if peers else {}),
                **(third_party.summary(other) if other else {}),
            },
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    told = f"comma-separated: {', '.join(PARTS)} (the first two)"
    add("--parts", type=some_of(PARTS), metavar="LIST", help=told)
    add("--peers", action="store_true", help="the same as --parts peers")
    told, rungs = "numbers of live sessions, ascending (1,2,4,8,16,32)", checked(_rungs)
    add("--sessions", dest="rungs", type=rungs, metavar="LIST", help=told)
    rounds, turns, tokens = number(int, 1, 100), number(int, 1, 1000), number(int, 0, 100_000)
    add("--rounds", type=rounds, metavar="N", help="how often everything is repeated")
    add("--turns", type=turns, metavar="N", help="conversations per session and run")
    told = "documents of a conversation (1500)"
    add("--documents", dest="documents_tokens", type=tokens, metavar="TOKENS", help=told)
    told, speed = "typing speed, characters per minute (400)", number(float, 30.0, 60_000.0)
    add("--cpm", dest="chars_per_minute", type=speed, metavar="N", help=told)
    told, factor = "end when p95 is F times the first (8)", number(float, 1.0, 1e6)
    add("--stop-factor", type=factor, metavar="F", help=told)
    quick = "three minutes: fewer sessions, faster typing"
    add_common(parser, "of questions, typing and order", quick)


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, show, write; return the exit status."""
    parts = options.parts or (() if options.peers else DEFAULT_PARTS)
    parts = tuple(dict.fromkeys((*parts, *["peers"] * options.peers)))
    ladder, gate = _plans(options)
    run, measured = report.Run("load", options, console), Measured()
    run.perform(lambda: asyncio.run(_measure(parts, ladder, gate, run, measured)), *UNREACHABLE)
    config = {
        "parts": list(parts),
        "quick": options.quick,
        "sessions": asdict(ladder) if "sessions" in parts else None,
        "gateway": asdict(gate) if "gateway" in parts else None,
    }
    content = run.content(config, **measured.parts())
    show(console, tables(content))
    run.show(content["summary"], lambda name: MEANING.get(name, ""))
    return run.finish(content)


async def _measure(
    parts: tuple[str, ...],
    ladder: LadderPlan,
    gate: gateway.GatewayPlan,
    run: report.Run,
    measured: Measured,
) -> None:
    seed = run.options.seed
    with display(run.console) as shown, scratch() as folder:
        if "gateway" in parts:
            shown.begin("gateway", gate.steps())
            measured.gateway = gateway.GatewayResult(gate, gateway.Cores.of_this_machine())
            await gateway.measure(measured.gateway, folder, shown.say)
        if "sessions" in parts:
            shown.begin("sessions", ladder.steps())
            measured.ladder = LadderResult(ladder)
            run.environment["dtypes"] = await _climb(measured.ladder, folder, shown.say)
        if "peers" in parts:
            measured.peers = peers_run.PeersResult(seed)
            shown.begin("peers", measured.peers.steps())
            await peers_run.measure(measured.peers, folder, shown.say)
        if "third-party" in parts:
            measured.third_party = third_party.ThirdPartyResult(seed)
            shown.begin("third party", measured.third_party.steps())
            await third_party.measure(measured.third_party, folder, shown.say)


async def _climb(result: LadderResult, folder: Path, say: Say) -> dict[str, str | None]:
    """Climb the ladder; return what the experts computed in."""
    say("starting LiveMind", 0)
    await prepare([RANDOM])
    config = server_config([RANDOM])
    config["server"] = {"max_concurrent_turns": 2 * MOST_SESSIONS}
    async with running(config, folder, folder / "livemind.log") as url, Client(url) as client:
        await Ladder(client, result, say).climb()
        return await client.dtypes()


def _plans(options: argparse.Namespace) -> tuple[LadderPlan, gateway.GatewayPlan]:
    ladder = QUICK_LADDER if options.quick else LadderPlan(RANDOM.expert_id)
    gate = QUICK_GATEWAY if options.quick else gateway.GatewayPlan()
    given = vars(options)
    known = {one.name for one in fields(ladder)} & given.keys()
    changes = {name: given[name] for name in known if given[name] is not None}
    rounds = changes.get("rounds", gate.rounds)
    return replace(ladder, **changes), replace(gate, rounds=rounds, seed=options.seed)


def _rungs(text: str) -> tuple[int, ...]:
    """Return numbers of sessions.

    Raises:
        ValueError: something is no number, too large, or not in its place.
    """
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if (
        not found
        or list(found) != sorted(set(found))
        or not 1 <= found[0] <= found[-1] <= MOST_SESSIONS
    ):
        need = f"ascending numbers from 1 to {MOST_SESSIONS}, comma-separated"
        raise ValueError(f"got {text!r}, need {need}")
    return found
