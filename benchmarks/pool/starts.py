"""How long a further expert takes to start, and how much of that typing hides.

Everything is paired within a round: plain vLLM and LiveMind start one after the other; the same
question meets an expert that is not loaded, typed live or sent whole, and one that is.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter

from ...backends.engine_args import ZOO_MODELS
from ...backends.spec import ExpertSpec
from ..bench import BenchmarkFailed
from ..figures.answer import Answer, Json
from ..figures.estimates import ci95
from ..figures.stats import p50
from ..harness import engines
from ..harness.client import Client
from ..harness.doors import ChatDoor, Door, LiveDoor
from ..harness.experts import served, zoo_experts
from ..harness.server_process import running
from ..harness.vllm_server import plain_vllm
from ..harness.wire import AUTO, Ask, Said
from ..workload.typing_model import TypingModel

Say = Callable[[str | None, int], None]
QUESTION = (
    "Write a Python function decode that multiplies x by seventy seven and adds fifty one "
    "and returns the larger value"
)
ASKED, OTHER = "coding", "technical"
GIB = 2**30


@dataclass(frozen=True, slots=True)
class StartPlan:
    """How often everything is repeated, and how fast the question is typed."""

    rounds: int = 3
    wake_rounds: int = 4
    chars_per_minute: float = 400.0
    seed: int = 1


@dataclass(slots=True)
class StartResult:
    """One entry per round; seconds of starts, milliseconds from commit to first token."""

    plan: StartPlan
    plain_s: list[float] = field(default_factory=list)
    second_s: list[float] = field(default_factory=list)
    cold_ms: list[float] = field(default_factory=list)
    typed_ms: list[float] = field(default_factory=list)
    warm_ms: list[float] = field(default_factory=list)
    memory: dict[int, engines.Memory] = field(default_factory=dict)

    def hidden(self) -> list[float]:
        """Return the shares of the wait for the load that typing took away."""
        rounds = zip(self.cold_ms, self.typed_ms, self.warm_ms, strict=False)
        return [(cold - typed) / (cold - warm) for cold, typed, warm in rounds if cold > warm]

    def summary(self) -> dict[str, float | None]:
        """Return the figures."""
        ratios = [a / b for a, b in zip(self.second_s, self.plain_s, strict=False)]
        found: dict[str, float | None] = {
            "pool.start_s.second_expert.p50": p50(self.second_s),
            "pool.start_s.second_expert.max": max(self.second_s, default=None),
            "pool.start_s.plain_vllm.p50": p50(self.plain_s),
            "pool.start.second_over_plain.p50": p50(ratios),
            "pool.wake.hidden_share.p50": p50(self.hidden()),
            "pool.wake.hidden_share.min": min(self.hidden(), default=None),
            "pool.wake.ttft_ms.cold.p50": p50(self.cold_ms),
            "pool.wake.ttft_ms.typed.p50": p50(self.typed_ms),
            "pool.wake.ttft_ms.loaded.p50": p50(self.warm_ms),
        }
        for count, memory in self.memory.items():
            found[f"pool.memory.uss_gib.{count}_experts"] = memory.uss / GIB
            found[f"pool.memory.pss_gib.{count}_experts"] = memory.pss / GIB
        return found

    def case(self) -> Json:
        """Return the part of the report."""
        return {
            "name": "starts",
            "question": QUESTION,
            **asdict(self),
            "hidden_share": self.hidden(),
            "hidden_share_ci95": ci95(self.hidden(), self.plan.seed),
        }


async def measure(result: StartResult, folder: Path, say: Say) -> None:
    """Serve, start, type; what has been measured is in ``result`` also when it raises.

    ``folder`` exists and is empty.

    Raises:
        BenchmarkFailed, LiveMindError: a server did not come up, or a request failed.
    """
    plan = result.plan
    say("starting LiveMind", 0)
    async with running(config(2), folder) as url, Client(url) as client:
        server = _Server(client, random.Random(plan.seed), plan.chars_per_minute)
        for number in range(plan.rounds):
            say("starting plain vLLM and a second expert", number)
            began = perf_counter()
            async with plain_vllm(_spec(ASKED), folder / "vllm.log"):
                result.plain_s.append(perf_counter() - began)
            await server.displace()
            result.second_s.append(await server.load(ASKED))
        result.memory[2] = engines.memory(_processes(folder))
        for number in range(plan.wake_rounds):
            say("typing to an expert that is not loaded", plan.rounds + number)
            arms = [(server.whole, result.cold_ms), (server.typed, result.typed_ms)]
            for ask, times in arms if number % 2 else reversed(arms):
                await server.displace()
                times.append(await ask())
            result.warm_ms.append(await server.whole())
    say("a server with one expert more", plan.rounds + plan.wake_rounds)
    async with running(config(3), folder) as url, Client(url) as client:
        server = _Server(client, random.Random(plan.seed), plan.chars_per_minute)
        for expert in (ASKED, OTHER):
            await server.load(expert)
        result.memory[3] = engines.memory(_processes(folder))


def config(max_loaded: int) -> Json:
    """Return the embedded experts, the fast one warm."""
    names = ("fast", "general", "technical", "coding", "multilingual")
    return served(
        zoo_experts(names, max_model_len=2048),
        lazy_loading={"warmup_pool_size": 1, "max_loaded_experts": max_loaded},
        router={"fast_expert": "fast", "default_expert": "general", "languages": ["en"]},
    )


def _spec(name: str) -> ExpertSpec:
    path = str(ZOO_MODELS / name)
    return ExpertSpec(name, model_path=path, kv_cache_gib=0.25, max_model_len=2048)


def _processes(folder: Path) -> tuple[int, ...]:
    return engines.descendants(engines.server_pid(folder / "config.json"))


class _Server:
    """Asks a LiveMind server and reads its clockwork from outside."""

    def __init__(self, client: Client, rng: random.Random, cpm: float) -> None:
        self._client, self._rng = client, rng
        self._typing = TypingModel(chars_per_minute=cpm)
        self._asked = 0

    async def displace(self) -> None:
        """Let another expert take the place of the one that is asked for."""
        await self._ask(ChatDoor(self._client), Said("What is the port of Kestrel?"), OTHER)

    async def load(self, expert: str) -> float:
        """Load an expert; return the seconds between the pool's two reports."""
        answer = await self._ask(LiveDoor(self._client), Said("Hello there"), expert)
        told: dict[str, float] = {}
        for at_s, event in answer.events:
            if event["type"] != "expert.updated" or event["expert"] != expert:
                continue
            if event["state"] == "loading" or told:
                told.setdefault(event["state"], at_s)
        if "loading" not in told or "ready" not in told:
            raise BenchmarkFailed(f"{expert} was loaded already")
        return told["ready"] - told["loading"]

    async def whole(self) -> float:
        """Send the question as a whole; return ms to the first token."""
        return await self._routed(ChatDoor(self._client), Said(QUESTION))

    async def typed(self) -> float:
        """Type the question; return ms from the commit to the first token."""
        keys, think_s = self._typing.keys(QUESTION, self._rng), self._typing.think_s(self._rng)
        return await self._routed(LiveDoor(self._client), Said(QUESTION, keys, think_s))

    async def _routed(self, door: Door, said: Said) -> float:
        answer = await self._ask(door, said, AUTO)
        if answer.expert != ASKED:
            raise BenchmarkFailed(f"the question was routed to {answer.expert}, not to {ASKED}")
        assert answer.ttft_ms is not None
        return answer.ttft_ms

    async def _ask(self, door: Door, said: Said, model: str) -> Answer:
        self._asked += 1
        ask = Ask(model, f"pool-{self._asked}", 4, speculation="draft")
        async with door.conversation(ask) as talk:
            answer = await talk.turn(said)
        if answer.outcome != "completed" or answer.ttft_ms is None:
            raise BenchmarkFailed(f"no answer: {answer.error}")
        return answer
