"""An hour of people who type: memory stays. ``python soak.py --minutes 60`` (`make soak`).

200 sessions on a server with a scripted expert, each types a sentence for ten seconds and commits
it: twenty turns a second. The server is a process of its own, whose resident memory is read every
few seconds. The first sixth of the time is warm-up; the last sixth is compared with the second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import time
from pathlib import Path
from statistics import fmean

import aiohttp

from livemind.backends.fake import FakeExpert
from livemind.benchmarks.sessions.typist import Habits, Seen, Typist
from livemind.benchmarks.workload.typing_model import EditingModel
from livemind.orchestrator.cli import event_loop
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.live_mind import LiveMind
from livemind.orchestrator.server.app import create_app, run_server
from livemind.rag.bridge.serving import responsive

SAMPLE_S = 5.0
PAGE_BYTES = 4096
MOST_GROWTH = 0.03
SELF_MADE = 0.9
QUESTION = "what are the opening hours of the pool in the middle of town on a Sunday"


async def serve() -> None:
    """Serve a scripted expert until stdin ends; print the port."""
    expert = FakeExpert("fake", ttft_s=0.02, token_s=0.01, prefill_token_s=0.0005)
    settings = Settings.model_validate(
        {
            "experts": [{"expert_id": "fake", "model_path": "fake"}],
            "lazy_loading": {"enabled": False},
        }
    )
    listener = socket.create_server(("127.0.0.1", 0))
    async with (
        LiveMind(settings, create=lambda spec: expert) as mind,
        run_server(create_app(mind), listener),
    ):
        with responsive():
            print(listener.getsockname()[1], flush=True)
            await asyncio.to_thread(sys.stdin.read)


async def drive(minutes: float, sessions: int, turns_a_second: float) -> int:
    """Run and print the figures as JSON; return 1 where memory grew too much, else 0."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--serve",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None
    url = f"http://127.0.0.1:{int(await server.stdout.readline())}"
    seen, habits = Seen(), habits_of(sessions / turns_a_second)
    resident: list[int] = []
    began_s = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        people = [
            asyncio.create_task(
                Typist(http, url, habits, seen, number).run(number / turns_a_second)
            )
            for number in range(sessions)
        ]
        while time.monotonic() - began_s < 60 * minutes:
            await asyncio.sleep(SAMPLE_S)
            resident.append(resident_bytes(server.pid))
            if any(one.done() for one in people):
                break
        took_s = time.monotonic() - began_s
        for one in people:
            one.cancel()
        outcome = await asyncio.gather(*people, return_exceptions=True)
    server.terminate()
    await server.wait()
    ended = seen.ended
    failed = [error for error in outcome if not isinstance(error, asyncio.CancelledError)]
    sixth = max(1, len(resident) // 6)
    first, last = fmean(resident[sixth : 2 * sixth]), fmean(resident[-sixth:])
    figures = {
        "minutes": round(took_s / 60, 1),
        "sessions": sessions,
        "turns": ended["completed"],
        "turns_per_s": round(ended["completed"] / took_s, 1),
        "failed": ended["failed"] + ended["lost"] + len(failed),
        "rss_mib.after_warm_up": round(first / 2**20, 2),
        "rss_mib.end": round(last / 2**20, 2),
        "rss_growth": round(last / first - 1, 4),
    }
    print(json.dumps(figures))
    for error in (*failed[:3], *seen.errors):
        print(repr(error), file=sys.stderr)
    return int(bool(failed) or last > (1 + MOST_GROWTH) * first)


def habits_of(turn_s: float) -> Habits:
    """Return how people type who take so long for a turn, a fifth of it for answer and pause.

    Slips, answers and pauses take a tenth more than that by themselves.
    """
    turn_s *= SELF_MADE
    cadence = EditingModel(60 * len(QUESTION) / (0.8 * turn_s), think_ms=20 * turn_s)
    options = {"speculation": "draft"}
    pause_s = 0.3 * turn_s
    return Habits([QUESTION], cadence, "word", turns=8, pause_s=pause_s, options=options)


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def main() -> int:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--turns-per-second", type=float, default=20)
    parser.add_argument("--serve", action="store_true", help="be the server")
    asked = parser.parse_args()
    if asked.serve:
        event_loop.run(serve())
        return 0
    return asyncio.run(drive(asked.minutes, asked.sessions, asked.turns_per_second))


if __name__ == "__main__":
    sys.exit(main())
