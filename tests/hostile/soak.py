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
from collections import Counter
from pathlib import Path
from random import Random
from statistics import fmean

import aiohttp

from livemind.backends.fake import FakeExpert
from livemind.orchestrator.cli import event_loop
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.live_mind import LiveMind
from livemind.orchestrator.server.app import create_app, run_server
from livemind.rag.bridge.serving import responsive

SAMPLE_S = 5.0
PAGE_BYTES = 4096
MOST_GROWTH = 0.03
WORDS = [
    "what",
    "are",
    "the",
    "opening",
    "hours",
    "of",
    "the",
    "pool",
    "in",
    "the",
    "middle",
    "of",
    "town",
    "on",
    "a",
    "Sunday",
]


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


async def person(
    http: aiohttp.ClientSession, url: str, number: int, turn_s: float, ended: Counter[str]
) -> None:
    """Type and commit for ever, in conversations of a few turns."""
    random = Random(number)
    await asyncio.sleep(turn_s * random.random())
    while True:
        async with http.ws_connect(url, max_msg_size=0) as ws:
            await ws.send_str('{"type": "session.update", "speculation": "draft"}')
            done: asyncio.Queue[str] = asyncio.Queue()
            reading = asyncio.create_task(read(ws, done))
            try:
                for _ in range(random.randrange(3, 12)):
                    await turn(ws, random, turn_s, done, ended)
            finally:
                reading.cancel()
        ended["sessions"] += 1


async def read(ws: aiohttp.ClientWebSocketResponse, done: asyncio.Queue[str]) -> None:
    """Read all the time, so that pings are answered; tell how turns ended."""
    async for message in ws:
        event = json.loads(message.data)
        if event["type"] == "response.done":
            done.put_nowait(event["status"])
    done.put_nowait("closed")


async def turn(
    ws: aiohttp.ClientWebSocketResponse,
    random: Random,
    turn_s: float,
    done: asyncio.Queue[str],
    ended: Counter[str],
) -> None:
    """Type one sentence, now and then with a word taken back, and read its answer."""
    due_s, text = time.monotonic() + turn_s, f"{random.randrange(10**6)} "
    for word in WORDS:
        await asyncio.sleep(0.8 * turn_s / len(WORDS))
        if random.random() < 0.05:
            frame = {"type": "input_text.replace", "text": text}
        else:
            text += f"{word} "
            frame = {"type": "input_text.append", "text": f"{word} "}
        await ws.send_str(json.dumps(frame))
    await ws.send_str(json.dumps({"type": "input_text.commit", "text": text}))
    ended[await done.get()] += 1
    await asyncio.sleep(max(0.0, due_s - time.monotonic()))


async def drive(minutes: float, sessions: int, turns_a_second: float) -> int:
    """Run and print the figures as JSON; return 1 where memory grew too much, else 0."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--serve",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None
    url = f"ws://127.0.0.1:{int(await server.stdout.readline())}/v1/live"
    ended: Counter[str] = Counter()
    resident: list[int] = []
    began_s = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        people = [
            asyncio.create_task(person(http, url, number, sessions / turns_a_second, ended))
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
    failed = [error for error in outcome if not isinstance(error, asyncio.CancelledError)]
    sixth = max(1, len(resident) // 6)
    first, last = fmean(resident[sixth : 2 * sixth]), fmean(resident[-sixth:])
    figures = {
        "minutes": round(took_s / 60, 1),
        "sessions": sessions,
        "turns": ended["completed"],
        "turns_per_s": round(ended["completed"] / took_s, 1),
        "failed": ended["failed"] + ended["closed"] + len(failed),
        "rss_mib.after_warm_up": round(first / 2**20, 2),
        "rss_mib.end": round(last / 2**20, 2),
        "rss_growth": round(last / first - 1, 4),
    }
    print(json.dumps(figures))
    for error in failed[:3]:
        print(repr(error), file=sys.stderr)
    return int(bool(failed) or last > (1 + MOST_GROWTH) * first)


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
