"""People who type: many live sessions at one gateway or several, what they wait and what it costs.

Everybody types questions at the same speed, commits, reads and types again. The gateways and a
remote expert of known latency are started here, or --url names gateways that run. The processor's
time of each gateway is counted above that with all sessions open and nobody typing. Route updates
are timed from the key that ends a word, commits to the first text, less the expert's latency.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import psutil
from rich.console import Console

from ..bench import BenchmarkFailed, add_common, display, number, scratch
from ..figures.answer import Json, Number
from ..figures.stats import quantile
from ..gateway.run import Cores, pinned
from ..harness import fake_server
from ..harness.experts import served
from ..harness.fake_server import MODEL
from ..harness.loop_watch import Ticks, no_collection, watch_loop
from ..harness.report import Run
from ..harness.server_process import COMMAND, free_port, running, serving
from ..workload.conversations import FILLER, turn_input
from ..workload.typing_model import TypingModel
from . import expert
from .typist import Frames, Habits, Seen, Typist

QUESTIONS = 512
OPENING_AT_ONCE = 32
DESCRIPTORS_KEPT = 256
IDLE_S = 5.0
MEANING = {
    "sessions.cpu_cores.most": "cores that the busiest gateway took, above all sessions idle",
    "sessions.cpu_cores.sum": "the same of all gateways together",
    "sessions.idle_cpu_cores.sum": "cores that all gateways took with all sessions open and idle",
    "sessions.route_ms.p50": "from the key that ends a word to the route of a text with it",
    "sessions.route_ms.p95": "the same",
    "sessions.added_ms.p50": "commit to first text, less the expert's latency, without a draft",
    "sessions.added_ms.p95": "the same",
    "sessions.ttft_ms.p50": "commit to first text, adopted drafts included",
    "sessions.ttft_ms.p95": "the same",
    "sessions.drafted_share": "answers whose first text was an adopted draft's",
    "sessions.turns_per_s": "turns that were answered",
    "sessions.frames_per_s": "frames of typed text",
    "sessions.failed": "turns that failed or were lost",
    "sessions.harness_late_ms.p95": "how late this harness's own event loop was",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure; ``warm_up_s``: everybody begins within it, nothing counts."""

    sessions: int = 1000
    gateways: int = 1
    seconds: float = 30.0
    warm_up_s: float = 20.0
    chars_per_minute: float = 400.0
    frames: Frames = "key"
    speculation: str = "draft"
    latency_ms: float = 100.0
    itl_ms: float = 10.0
    tokens: int = 16
    seed: int = 1


QUICK = Plan(sessions=100, seconds=10.0, warm_up_s=5.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add, plan = parser.add_argument, Plan()
    add("--sessions", type=number(int, 1, 50_000), metavar="N", help="people who type (1000)")
    add("--gateways", type=number(int, 1, 16), metavar="N", help="gateways to be started (1)")
    told = "a gateway that runs, repeated for several, instead of starting any"
    add("--url", action="append", dest="urls", metavar="URL", help=told)
    add("--key", metavar="KEY", help="API key for --url")
    add("--seconds", type=number(float, 1.0, 86_400.0), metavar="S", help="that count (30)")
    add("--cpm", dest="chars_per_minute", type=number(float, 30.0, 60_000.0), metavar="N",
        help="typing speed, characters per minute (400)")  # fmt: skip
    add("--frames", choices=("key", "word"), help="what is sent at a time (key)")
    add("--speculation", choices=("off", "prefill", "draft"),
        help=f"what sessions ask for ({plan.speculation})")  # fmt: skip
    add("--latency-ms", type=number(float, 0.0, 60_000.0), metavar="MS",
        help="of the expert, to its first token (100); with --url what is subtracted")  # fmt: skip
    add_common(parser, "of questions, keys and pauses", "100 sessions for ten seconds")


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, show, write; return the exit status."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    known = {name: given[name] for name in asdict(Plan()) if name in given}
    plan = Plan(**{**asdict(QUICK if options.quick else Plan()), **known})
    measured, cases = Run("sessions", options, console), dict[str, Json]()
    measured.perform(lambda: asyncio.run(_measure(plan, options, console, cases)))
    summary = summarise(plan, cases["all"]) if cases else {}
    measured.show(summary, lambda name: MEANING.get(name, ""))
    for error, count in cases.get("all", {}).get("errors", {}).items():
        console.print(f"{count} x {error}", style="red", markup=False)
    config = {**asdict(plan), "urls": options.urls}
    return measured.finish(measured.content(config, cases=[*cases.values()], summary=summary))


async def _measure(
    plan: Plan, options: argparse.Namespace, console: Console, cases: dict[str, Json]
) -> None:
    with display(console, total=4) as shown, scratch() as folder:
        shown.say("starting the gateways", 0)
        async with _gateways(plan, options.urls, folder) as (urls, processes):
            cases["all"] = await play(plan, urls, processes, options.key, shown.step)


@asynccontextmanager
async def _gateways(
    plan: Plan, urls: Sequence[str] | None, folder: Path
) -> AsyncIterator[tuple[Sequence[str], Sequence[psutil.Process]]]:
    """Yield gateways' URLs and their processes, none where they are not ours."""
    if urls is not None:
        yield [url.rstrip("/") for url in urls], ()
        return
    cores, port = Cores.of_this_machine(), free_port()
    command = fake_server.command(port, plan.latency_ms, plan.itl_ms, plan.tokens, expert.__name__)
    async with serving((*pinned(cores.load), *command), port, folder / "expert.log") as upstream:
        config = served(
            [
                {"expert_id": name, "kind": "remote", "base_urls": [upstream], "model": MODEL,
                 "domain": name}
                for name in ("general", "technical")
            ],
            server={
                "max_sessions": plan.sessions + 1,
                "max_concurrent_turns": 2 * plan.sessions,
            },
        )  # fmt: skip
        async with _started(plan.gateways, config, cores, folder) as started:
            yield started, [_process_at(url) for url in started]


@asynccontextmanager
async def _started(
    gateways: int, config: Json, cores: Cores, folder: Path
) -> AsyncIterator[list[str]]:
    if not gateways:
        yield []
        return
    place = folder / f"gateway-{gateways}"
    place.mkdir()
    core = cores.proxy if gateways % 2 else cores.load  # the first one on the first core
    command = (*pinned(core), *COMMAND)
    async with (
        running(config, place, command=command) as url,
        _started(gateways - 1, config, cores, folder) as others,
    ):
        yield [url, *others]


def _process_at(url: str) -> psutil.Process:
    port = int(url.rpartition(":")[2])
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.pid is not None:
            return psutil.Process(one.pid)
    raise BenchmarkFailed(f"{url}: whose process that is cannot be found")


async def play(
    plan: Plan,
    urls: Sequence[str],
    processes: Sequence[psutil.Process],
    key: str | None,
    say: Callable[[str], None],
) -> Json:
    """Let everybody type and return what was seen; ``say`` gets what is happening.

    Raises:
        BenchmarkFailed: a gateway refuses a session, or there are not enough open files.
    """
    _allow_descriptors(plan.sessions)
    habits, seen, ticks = _habits(plan), Seen(), Ticks()
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as http:
        people = [
            Typist(http, urls[n % len(urls)], habits, seen, (plan.seed, n))
            for n in range(plan.sessions)
        ]
        say("opening sessions")
        await _open(people)
        say("nobody types")
        idle = await _busy(processes, IDLE_S)
        say("warming up")
        with no_collection():
            async with _typing(people, plan.warm_up_s):
                await asyncio.sleep(plan.warm_up_s)
                seen.clear()
                say("everybody types")
                async with watch_loop(ticks):
                    busy = await _busy(processes, plan.seconds)
                found = _told(seen)
    late = quantile(ticks.late_ms, 0.95)
    return {**found, "idle_cores": idle, "busy_cores": busy, "harness_late_ms_p95": late}


async def _open(people: Sequence[Typist]) -> None:
    """Open everybody's first session.

    Raises:
        BenchmarkFailed: a gateway refuses one.
    """
    try:
        for n in range(0, len(people), OPENING_AT_ONCE):
            await asyncio.gather(*(one.connect() for one in people[n : n + OPENING_AT_ONCE]))
    except (aiohttp.ClientError, OSError) as exc:
        raise BenchmarkFailed(f"a session was not opened: {exc}") from None


@asynccontextmanager
async def _typing(people: Sequence[Typist], within_s: float) -> AsyncIterator[None]:
    tasks = [
        asyncio.create_task(one.run(after_s=within_s * n / len(people)))
        for n, one in enumerate(people)
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _busy(processes: Sequence[psutil.Process], seconds: float) -> list[float]:
    """Return the cores that each process takes in the next seconds."""
    before = [sum(one.cpu_times()[:2]) for one in processes]
    await asyncio.sleep(seconds)
    after = [sum(one.cpu_times()[:2]) for one in processes]
    return [(late - early) / seconds for early, late in zip(before, after, strict=True)]


def _habits(plan: Plan) -> Habits:
    questions = [turn_input(FILLER, plan.seed, n, 0).question for n in range(QUESTIONS)]
    options = {"speculation": plan.speculation}
    return Habits(questions, TypingModel(plan.chars_per_minute), plan.frames, options=options)


def _told(seen: Seen) -> Json:
    return {
        "route_ms": list(seen.route_ms),
        "ttft_ms": list(seen.ttft_ms),
        "drafted_ttft_ms": list(seen.drafted_ttft_ms),
        "frames": seen.frames,
        "ended": dict(seen.ended),
        "errors": dict(seen.errors),
    }


def summarise(plan: Plan, case: Json) -> dict[str, Number]:
    """Return the figures of a run."""
    undrafted, drafted = case["ttft_ms"], case["drafted_ttft_ms"]
    waits = [*undrafted, *drafted]
    added = [ms - plan.latency_ms for ms in undrafted]
    pairs = zip(case["busy_cores"], case["idle_cores"], strict=True)
    cores = [busy - idle for busy, idle in pairs]
    ended = case["ended"]
    return {
        "sessions.cpu_cores.most": max(cores, default=None),
        "sessions.cpu_cores.sum": sum(cores) if cores else None,
        "sessions.idle_cpu_cores.sum": sum(case["idle_cores"]) if cores else None,
        "sessions.route_ms.p50": quantile(case["route_ms"], 0.5),
        "sessions.route_ms.p95": quantile(case["route_ms"], 0.95),
        "sessions.added_ms.p50": quantile(added, 0.5),
        "sessions.added_ms.p95": quantile(added, 0.95),
        "sessions.ttft_ms.p50": quantile(waits, 0.5),
        "sessions.ttft_ms.p95": quantile(waits, 0.95),
        "sessions.drafted_share": len(drafted) / len(waits) if waits else None,
        "sessions.turns_per_s": ended.get("completed", 0) / plan.seconds,
        "sessions.frames_per_s": case["frames"] / plan.seconds,
        "sessions.failed": float(sum(n for how, n in ended.items() if how != "completed")),
        "sessions.harness_late_ms.p95": case["harness_late_ms_p95"],
    }


def _allow_descriptors(sessions: int) -> None:
    """Let this process, and the gateways that it starts, have a socket for each session."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * sessions + DESCRIPTORS_KEPT
    if soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise BenchmarkFailed(
                f"{sessions} sessions need {needed} open files, the limit is {hard}"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
