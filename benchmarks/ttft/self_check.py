"""The harness measured by itself: its times against those of a server that knows the truth.

The error of one answer is the harness's time to first token minus the server's own, which begins
with the last byte of the request and ends with the first byte of the answer: everything that this
client and two sockets of one machine add.
"""

from __future__ import annotations

import asyncio
import random

import aiohttp
from rich.console import Console

from ..bench import BenchmarkFailed, display, scratch
from ..figures.answer import Answer, Json
from ..figures.measure import distribution
from ..harness import fake_server
from ..harness.client import Client
from ..harness.doors import ChatDoor, Door, LiveDoor
from ..harness.loop_watch import Ticks, no_collection, watch_loop
from ..harness.server_process import free_port, serving
from ..harness.wire import Ask, Said
from ..workload.typing_model import TypingModel

TTFT_MS, ITL_MS, TOKENS = 20.0, 2.0, 8
USERS = 16
_QUESTION = "how does the lantern carry the bridge?"
_CPM = 60_000.0


async def self_check(answers: int, console: Console) -> Json:
    """Return ``cases``, ``harness`` and ``summary`` of ``answers`` through each door.

    The summary holds the worse door, asked by one user; beside it stand ``USERS`` users at a time.

    Raises:
        BenchmarkFailed: the known server did not start or an answer failed.
    """
    port, ticks = free_port(), Ticks()
    command = fake_server.command(port, TTFT_MS + (TOKENS - 1) * ITL_MS, ITL_MS, TOKENS)
    with scratch() as folder:
        async with (
            serving(command, port, folder / "fake.log") as url,
            Client(url) as client,
            watch_loop(ticks),
        ):
            doors: dict[str, Door] = {
                "chat": ChatDoor(client, "role"),
                "live": LiveDoor(client),
            }
            seen = await _ask_all(doors, answers, console)
            async with aiohttp.request("GET", f"{url}/record") as response:
                record: dict[str, tuple[float, float]] = await response.json()
    cases = [{"name": name, **_errors(found, record)} for name, found in seen.items()]
    alone = [case["error_ms"] for case in cases[: len(doors)]]
    return {
        "cases": cases,
        "harness": {
            "loop_late_ms": {**distribution(ticks.late_ms), "max": max(ticks.late_ms, default=None)}
        },
        "summary": {
            f"harness.error_ms.{level}": max(error[level] for error in alone)
            for level in ("p50", "p99")
        },
    }


async def _ask_all(
    doors: dict[str, Door], answers: int, console: Console
) -> dict[str, dict[str, Answer]]:
    """Return every answer by its salt, of each door alone and of ``USERS`` users at a time."""
    seen: dict[str, dict[str, Answer]] = {name: {} for name in doors}
    seen |= {f"{name}, {USERS} users": {} for name in doors}
    total = 2 * answers * len(doors)
    with display(console, "asking a server of known latency", total) as shown:
        for door in doors.values():
            await _ask(door, "warm-up", {})
        with no_collection():
            for number in range(answers):
                for name, door in doors.items():
                    await _ask(door, f"{name}-{number}", seen[name])
                    shown.step()
            for first in range(0, answers, USERS):
                for name, door in doors.items():
                    into = seen[f"{name}, {USERS} users"]
                    salts = [f"{name}-u{n}" for n in range(first, min(first + USERS, answers))]
                    await asyncio.gather(*(_ask(door, salt, into) for salt in salts))
                    shown.step(count=len(salts))
    return seen


async def _ask(door: Door, salt: str, into: dict[str, Answer]) -> None:
    keys = TypingModel(_CPM).keys(_QUESTION[:8], random.Random(salt))
    async with door.conversation(Ask(fake_server.MODEL, salt, TOKENS)) as talk:
        answer = await talk.turn(Said(_QUESTION, keys))
    if answer.outcome != "completed":
        raise BenchmarkFailed(f"self-check: {answer.outcome}: {answer.error}")
    into[salt] = answer


def _errors(found: dict[str, Answer], record: dict[str, tuple[float, float]]) -> Json:
    errors, truth = [], []
    for salt, answer in found.items():
        received_s, sent_s = record[salt]
        truth.append((sent_s - received_s) * 1000.0)
        if answer.ttft_ms is not None:
            errors.append(abs(answer.ttft_ms - truth[-1]))
    return {
        "known_ttft_ms": distribution(truth),
        "error_ms": {**distribution(errors), "max": max(errors, default=None)},
    }
