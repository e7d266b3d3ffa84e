"""Random requests to more experts than may be loaded, also while engines are killed.

A watcher sees from outside what must always hold: loaded experts, busy ones that leave, memory.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter

from ...backends.machine.memory import memory_levels
from ...orchestrator.client.client import LiveClient
from ...orchestrator.errors import LiveMindError
from ..figures.answer import Json
from ..figures.stats import mean, p50, p95
from ..harness import engines
from ..harness.experts import served, zoo_experts
from ..harness.server_process import running

Say = Callable[[str | None, int], None]
EXPERTS = ("fast", "general", "technical", "coding", "multilingual")
IN_MEMORY = ("loading", "ready", "draining", "unloading")
QUESTIONS = (
    "What is the port of Kestrel?",
    "Who is the owner of the hotel Willow?",
    "Write the Python function blend.",
    "What is hand in Portuguese?",
    "Show the voltage of Falcon.",
    "What is the price of Quince?",
)
WATCH_S = 0.05
MOST_TRIES = 8
THRESHOLD = 0.9


@dataclass(frozen=True, slots=True)
class StressPlan:
    """How much is asked, and how often an engine is killed (``kills_every_s`` None = never)."""

    requests: int = 300
    clients: int = 32
    max_loaded: int = 2
    kills_every_s: float | None = None
    seed: int = 1


@dataclass(slots=True)
class Asked:
    """What became of one request: how often it was tried, and how often an answer ended."""

    expert: str
    question: str
    tries: int = 0
    ends: int = 0
    text: str = ""
    error: str | None = None
    ms: float = 0.0


@dataclass(slots=True)
class StressResult:
    """What was asked and what the watcher saw."""

    plan: StressPlan
    asked: list[Asked] = field(default_factory=list)
    kills: int = 0
    most_loaded: int = 0
    most_engines: int = 0
    busy_left: int = 0
    most_memory_share: float = 0.0
    most_pss: int = 0
    seconds: float = 0.0
    experts: list[Json] = field(default_factory=list)
    turns_completed: int | None = None

    @property
    def lost(self) -> int:
        """Requests without an answer, whatever the reason."""
        return sum(one.ends == 0 for one in self.asked) + self.plan.requests - len(self.asked)

    @property
    def doubled(self) -> int:
        """Requests that were answered more than once, and answers that nobody got."""
        more = sum(max(one.ends - 1, 0) for one in self.asked)
        answers = sum(one.ends for one in self.asked)
        return more + max((self.turns_completed or answers) - answers, 0)

    @property
    def mixed(self) -> int:
        """Answers that differ from what the same expert said to the same question before."""
        first: dict[tuple[str, str], str] = {}
        pairs = (((one.expert, one.question), one.text) for one in self.asked if one.ends)
        return sum(first.setdefault(key, text) != text for key, text in pairs)

    def summary(self, name: str) -> dict[str, float | None]:
        """Return the figures under ``pool.NAME``."""
        times = [one.ms for one in self.asked if one.ends]
        loads = sum(expert["counts"]["loads"] for expert in self.experts)
        return {
            f"pool.{name}.lost": self.lost,
            f"pool.{name}.doubled": self.doubled,
            f"pool.{name}.mixed": self.mixed,
            f"pool.{name}.most_loaded": self.most_loaded,
            f"pool.{name}.most_engines": self.most_engines,
            f"pool.{name}.busy_unloaded": self.busy_left,
            f"pool.{name}.memory_share.max": self.most_memory_share,
            f"pool.{name}.pss_gib.max": self.most_pss / 2**30,
            f"pool.{name}.kills": self.kills,
            f"pool.{name}.tries_per_request": mean([one.tries for one in self.asked]),
            f"pool.{name}.loads": loads,
            f"pool.{name}.wait_ms.p50": p50(times),
            f"pool.{name}.wait_ms.p95": p95(times),
        }

    def case(self, name: str) -> Json:
        """Return the part of the report."""
        return {
            "name": name,
            "plan": asdict(self.plan),
            "seconds": self.seconds,
            "experts": self.experts,
            "turns_completed": self.turns_completed,
            "requests": [asdict(one) for one in self.asked],
        }


async def measure(plan: StressPlan, folder: Path, say: Say) -> StressResult:
    """Serve six experts, ask, watch; the report is whole also when requests fail.

    ``folder`` exists and is empty.
    """
    result, rng = StressResult(plan), random.Random(plan.seed)
    config = stress_config(plan)
    names = [expert["expert_id"] for expert in config["experts"]]
    wanted = [(rng.choice(names), rng.choice(QUESTIONS)) for _ in range(plan.requests)]
    say("starting LiveMind", 0)
    async with running(config, folder) as url, LiveClient(url, attempts=1) as client:
        began, pid = perf_counter(), engines.server_pid(folder / "config.json")
        async with asyncio.TaskGroup() as group:
            side = [group.create_task(_watch(result, client, pid))]
            if plan.kills_every_s is not None:
                side.append(group.create_task(_kill(result, pid, random.Random(plan.seed))))
            await _ask_all(result, wanted, client, say)
            for task in side:
                task.cancel()
        result.seconds = perf_counter() - began
        stats = await client.stats()
        result.experts = stats["experts"]
        result.turns_completed = stats["turns"].get("completed", 0)
    return result


def stress_config(plan: StressPlan) -> Json:
    """Return six experts, one of them another one's model again, of which few may be loaded."""
    listed = zoo_experts(EXPERTS, max_model_len=1024, domain="general")
    again = {**listed[1], "expert_id": f"{EXPERTS[1]}-2"}
    pool = {
        "warmup_pool_size": 1,
        "max_loaded_experts": plan.max_loaded,
        "memory_threshold": THRESHOLD,
        "max_queued_requests": plan.clients,
    }
    server = {"max_concurrent_turns": 2 * plan.clients}
    return served([*listed, again], lazy_loading=pool, server=server)


async def _ask_all(
    result: StressResult,
    wanted: list[tuple[str, str]],
    client: LiveClient,
    say: Say,
) -> None:
    left = iter(wanted)

    async def user() -> None:
        for expert, question in left:
            one = Asked(expert, question)
            began = perf_counter()
            await _ask(one, client)
            one.ms = (perf_counter() - began) * 1000
            result.asked.append(one)
            say("asking", len(result.asked))

    async with asyncio.TaskGroup() as group:
        for _ in range(result.plan.clients):
            group.create_task(user())


async def _ask(one: Asked, client: LiveClient) -> None:
    """Ask until there is an answer, as OpenAI's client does after a 429 or 5xx."""
    fields: Json = {"model": one.expert, "max_tokens": 8, "temperature": 0}
    while one.tries < MOST_TRIES and not one.ends:
        one.tries += 1
        one.text, one.error = "", None
        try:
            async for piece in client.complete(one.question, **fields):
                one.text += piece.text
                one.ends += piece.finish_reason is not None
        except LiveMindError as exc:
            one.error = f"{exc.code}: {exc.message}"[:300]
        if not one.ends:
            await asyncio.sleep(min(0.5 * 2 ** (one.tries - 1), 8.0))


async def _watch(result: StressResult, client: LiveClient, pid: int) -> None:
    while True:
        levels = memory_levels()
        share = max((level.used / level.limit for level in levels), default=0.0)
        result.most_memory_share = max(result.most_memory_share, share)
        result.most_engines = max(result.most_engines, len(engines.engines(pid)))
        result.most_pss = max(result.most_pss, engines.memory(engines.descendants(pid)).pss)
        with suppress(LiveMindError):
            experts = (await client.stats())["experts"]
            loaded = sum(expert["state"] in IN_MEMORY for expert in experts)
            result.most_loaded = max(result.most_loaded, loaded)
            result.busy_left += sum(
                expert["state"] == "unloading" and expert["users"] > expert["waiting"]
                for expert in experts
            )
        await asyncio.sleep(WATCH_S)


async def _kill(result: StressResult, pid: int, rng: random.Random) -> None:
    every_s = result.plan.kills_every_s
    assert every_s is not None
    while True:
        await asyncio.sleep(rng.expovariate(1 / every_s))
        if alive := engines.engines(pid):
            with suppress(ProcessLookupError):
                os.kill(rng.choice(alive), signal.SIGKILL)
                result.kills += 1
