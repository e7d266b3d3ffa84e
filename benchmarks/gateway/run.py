"""What the gateway itself costs: the same requests to a fake expert directly and through proxies.

The fake's latency is known and the same for every arm, so what is added is the proxy's. Each proxy
is one process on one core; the generator and the fake share another one.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, Literal

import psutil

from ..bench import BenchmarkFailed
from ..figures.answer import Json
from ..harness import fake_server
from ..harness.experts import served
from ..harness.fake_server import MODEL
from ..harness.server_process import COMMAND, free_port, output_of, running, serving
from ..peers.programs import LITELLM, Absent, Installed, installed, litellm_proxy
from .load import LoadResult, LoadSpec

Way = Literal["whole", "stream"]
Aim = Literal["latency", "throughput"]
WAYS: tuple[Way, ...] = ("whole", "stream")
AIMS: tuple[Aim, ...] = ("latency", "throughput")
DIRECT, LIVEMIND, POLLING, BARE, PEER = ARMS = (
    "direct",
    "livemind",
    "livemind-polling",
    "bare",
    "litellm",
)
WARM_UP_S = 1.5
_PIN = (
    "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); "
    "os.execvp(sys.argv[2], sys.argv[2:])"
)


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """What to measure.

    Attributes:
        users: requests in flight: on average, arriving at random, when latencies are compared; at
            any time (closed loop) when rates are.
        latency_ms: from request to last token of the fake when latencies are compared; it has none
            when rates are.
        itl_ms: between its tokens when latencies are compared.
        tokens: of every answer.
        rounds: how often every arm is measured.
        seconds, warm_up_s: of one measurement.
    """

    users: int = 64
    latency_ms: float = 1000.0
    itl_ms: float = 20.0
    tokens: int = 16
    rounds: int = 5
    seconds: float = 3.0
    warm_up_s: float = 1.5
    seed: int = 1

    @property
    def rate_per_s(self) -> float:
        """Arrivals that keep ``users`` requests in flight behind the fake's latency."""
        return self.users / (self.latency_ms / 1000.0)

    def steps(self) -> int:
        """Return how many measurements there are."""
        return self.rounds * len(WAYS) * len(AIMS) * len(ARMS)


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core runs what; None = not pinned, because there is only one or no way to."""

    proxy: int | None
    load: int | None

    @classmethod
    def of_this_machine(cls) -> Cores:
        """Return the first usable core for proxies and the last for the load."""
        if sys.platform != "linux":
            return cls(None, None)
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[-1]) if len(usable) > 1 else cls(None, None)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One arm for some seconds. Busy shares are of the cores, 0..1; None = not known."""

    round: int
    arm: str
    way: Way
    aim: Aim
    result: LoadResult
    proxy_core_busy: float | None
    load_core_busy: float | None

    def row(self) -> Json:
        """Return it as the report has it; single times where they are what is measured."""
        row = asdict(self)
        result = row.pop("result")
        if self.aim == "throughput":
            del result["ttft_ms"], result["total_ms"]
        return {**row, **result, "requests_per_s": self.requests_per_s}

    @property
    def requests_per_s(self) -> float:
        """Whole answers per second."""
        return self.result.ended / self.result.seconds


@dataclass(slots=True)
class GatewayResult:
    """What was measured so far."""

    plan: GatewayPlan
    cores: Cores
    peer: Installed | Absent | None = None
    measurements: list[Measurement] = field(default_factory=list)


def pinned(core: int | None) -> tuple[str, ...]:
    """Return what a command line must begin with to run on one core."""
    return () if core is None else (sys.executable, "-c", _PIN, str(core))


async def measure(result: GatewayResult, folder: Path, say: Callable[[str, int], None]) -> None:
    """Fill ``result``.

    Args:
        result: with the plan; measurements are added as they come.
        folder: for configurations and logs.
        say: gets what is happening and how many steps are done.

    Raises:
        BenchmarkFailed: the fake, LiveMind or the generator did not work.
    """
    plan, cores = result.plan, result.cores
    result.peer = await installed(LITELLM, lambda text: say(text, 0))
    async with AsyncExitStack() as stack:
        say("gateway: starting the servers", 0)
        fakes = {aim: await _fake(stack, plan, aim, cores, folder) for aim in AIMS}
        bare = {aim: await _bare(stack, aim, url, cores, folder) for aim, url in fakes.items()}
        urls: dict[str, str] = {}
        key = f"sk-{secrets.token_hex(16)}"  # LiteLLM wants one, so LiveMind checks it as well
        command = (*pinned(cores.proxy), *COMMAND)
        for arm in (LIVEMIND, POLLING):
            config = _livemind_config(fakes, key, busy_polling=arm == POLLING)
            place = folder / arm
            place.mkdir()
            urls[arm] = await stack.enter_async_context(
                running(config, place, folder / f"{arm}.log", command)
            )
        if isinstance(result.peer, Installed):
            models = {_model(aim): (url, MODEL) for aim, url in fakes.items()}
            proxy = litellm_proxy(result.peer, models, key, folder, pinned(cores.proxy))
            urls[PEER] = await stack.enter_async_context(proxy)
        arms = {aim: {DIRECT: fakes[aim], BARE: bare[aim], **urls} for aim in AIMS}
        await _rounds(result, arms, key, say)


async def _rounds(
    result: GatewayResult,
    arms: Mapping[Aim, Mapping[str, str]],
    key: str,
    say: Callable[[str, int], None],
) -> None:
    plan, rng, done = result.plan, random.Random(result.plan.seed), 0
    headers = {"Authorization": f"Bearer {key}"}
    for arm, url in arms["throughput"].items():
        say(f"gateway: warming {arm} up", done)
        for way in WAYS:
            stream = way == "stream"
            warm = LoadSpec(
                url, _model("throughput"), plan.users, 0.0, 0.0, WARM_UP_S, stream, 0, headers
            )
            await _load(warm, result.cores)
    for number in range(plan.rounds):
        for way in WAYS:
            for aim in AIMS:
                for arm in rng.sample(list(arms[aim]), len(arms[aim])):
                    say(f"gateway: round {number + 1}, {aim}, {way}, {arm}", done)
                    spec = LoadSpec(
                        url=arms[aim][arm],
                        model=_model(aim),
                        users=plan.users,
                        rate_per_s=plan.rate_per_s if aim == "latency" else 0.0,
                        seconds=plan.seconds,
                        warm_up_s=plan.warm_up_s,
                        stream=way == "stream",
                        seed=rng.randrange(1 << 30),
                        headers=headers,
                    )
                    one = await _one(number, arm, way, aim, spec, result.cores)
                    result.measurements.append(one)
                    done += 1


async def _one(
    number: int, arm: str, way: Way, aim: Aim, spec: LoadSpec, cores: Cores
) -> Measurement:
    before = psutil.cpu_times(percpu=True)
    found = await _load(spec, cores)
    after = psutil.cpu_times(percpu=True)
    proxy, load = (_busy(before, after, core) for core in (cores.proxy, cores.load))
    return Measurement(number, arm, way, aim, found, proxy, load)


async def _fake(
    stack: AsyncExitStack, plan: GatewayPlan, aim: Aim, cores: Cores, folder: Path
) -> str:
    port = free_port()
    latency_ms, itl_ms = (plan.latency_ms, plan.itl_ms) if aim == "latency" else (0.0, 0.0)
    command = fake_server.command(port, latency_ms, itl_ms, plan.tokens)
    command = (*pinned(cores.load), *command)
    return await stack.enter_async_context(serving(command, port, folder / f"fake-{aim}.log"))


async def _bare(stack: AsyncExitStack, aim: Aim, upstream: str, cores: Cores, folder: Path) -> str:
    port = free_port()
    module = f"{__package__}.bare"
    given = ("--port", str(port), "--upstream", upstream)
    command = (*pinned(cores.proxy), sys.executable, "-m", module, *given)
    return await stack.enter_async_context(serving(command, port, folder / f"bare-{aim}.log"))


async def _load(spec: LoadSpec, cores: Cores) -> LoadResult:
    command = (*pinned(cores.load), sys.executable, "-m", f"{__package__}.load")
    try:
        output = await output_of(*command, json.dumps(asdict(spec)), stderr=PIPE)
    except CalledProcessError as exc:
        last = exc.output.strip().splitlines()[-1:]
        raise BenchmarkFailed(f"the load generator ended with {exc.returncode}: {last}") from None
    return LoadResult(**json.loads(output))


def _model(aim: Aim) -> str:
    return f"{MODEL}-{aim}"


def _livemind_config(fakes: Mapping[Aim, str], key: str, *, busy_polling: bool) -> Json:
    experts = [
        {"expert_id": _model(aim), "kind": "remote", "base_urls": [url], "model": MODEL}
        for aim, url in fakes.items()
    ]
    server = {"max_concurrent_turns": 1024, "api_keys": [key], "busy_polling": busy_polling}
    return served(experts, server=server)


def _busy(before: Sequence[Any], after: Sequence[Any], core: int | None) -> float | None:
    """Return the busy share of a core between two readings of ``psutil.cpu_times``."""
    if core is None:
        return None
    spent = [late - early for early, late in zip(before[core][:8], after[core][:8], strict=True)]
    idle = sum(spent[3:5])  # idle and waiting for a disk; what follows the eight is counted twice
    return 1.0 - idle / sum(spent) if sum(spent) > 0 else None
