"""Long and odd texts at every door and every kind of expert: the event loop is not held up."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from livemind.backends.fake import FakeExpert
from livemind.backends.registry import create_expert
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.live_mind import LiveMind
from livemind.orchestrator.server.app import create_app, run_server

from .long_texts import DOORS, TEXTS

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(900)]

DRIVER = Path(__file__).with_name("long_texts.py")
TICK_S = 0.005
MOST_MS = 50.0
ANSWERED = {"200", "completed", "400", "413", "context_length_exceeded"}
"""Beside answers: what the door does not offer for this expert, and what is over a limit."""


@dataclass
class Tick:
    """When the loop was due, and how late it came by its own doing.

    Late and busy: a loop that waits for a core that other programs have is late and not busy.
    """

    at_s: float
    stalled_ms: float


@asynccontextmanager
async def watched() -> AsyncIterator[list[Tick]]:
    """Yield the ticks of this loop; what counts is its own thread's computing."""
    ticks: list[Tick] = []

    async def tick() -> None:
        while True:
            due_s, spent_s = time.monotonic() + TICK_S, time.thread_time()
            await asyncio.sleep(TICK_S)
            late_s = time.monotonic() - due_s
            busy_s = time.thread_time() - spent_s
            ticks.append(Tick(due_s, 1000 * min(late_s, busy_s)))

    task = asyncio.create_task(tick())
    try:
        yield ticks
    finally:
        task.cancel()


def far(expert_id: str, domain: str, model: str, port: int) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}"
    remote = {"kind": "remote", "base_urls": [url], "model": model}
    return {"expert_id": expert_id, "domain": domain, **remote}


KINDS: dict[str, Callable[[int], dict[str, Any]]] = {
    "fake": lambda port: {"expert_id": "fake", "model_path": "fake", "domain": "general"},
    "far": partial(far, "far", "coder", "open"),
    "closed": partial(far, "closed", "technical", "m"),
    "engine": lambda port: {
        "expert_id": "engine",
        "model_path": "zoo:fast",
        "dtype": "auto",
        "max_model_len": 4096,
        "block_size": 32,
        "kv_cache_gib": 0.25,
    },
}
IDLE = """
import asyncio, sys, time

async def main():
    reading = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    worst_s = 0.0
    while not reading.done():
        due_s = time.monotonic() + 0.005
        await asyncio.sleep(0.005)
        worst_s = max(worst_s, time.monotonic() - due_s)
    print(round(1000 * worst_s, 1))

asyncio.run(main())
"""


@asynccontextmanager
async def idle_loop() -> AsyncIterator[list[float]]:
    """Run a loop with nothing to do beside the block; yields its worst delay in ms, at the end."""
    beside = await asyncio.create_subprocess_exec(
        sys.executable, "-c", IDLE, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    worst_ms: list[float] = []
    try:
        yield worst_ms
    finally:
        said, _ = await beside.communicate(b"")
        worst_ms.append(float(said))


@pytest.mark.parametrize("experts", [["fake", "far", "closed"], ["engine"]])
async def test_no_text_at_any_door_holds_up_the_loop(experts: list[str]) -> None:
    if "engine" in experts:
        pytest.importorskip("vllm", reason="needs the extra `cpu` or `gpu`")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = Settings.model_validate(
        {
            "experts": [KINDS[name](port) for name in experts],
            "lazy_loading": {
                "warmup_pool_size": len(experts),
                "max_loaded_experts": len(experts),
            },
        }
    )
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    driver = await asyncio.create_subprocess_exec(
        sys.executable, str(DRIVER), url, str(port), *experts,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert driver.stdin is not None
    assert driver.stdout is not None
    await driver.stdout.readline()
    # It looks its prompt up in its cache on the loop, block by block, as no real expert does.
    fake = FakeExpert("fake", answer=lambda messages: "so", block_tokens=64)
    create = lambda spec: fake if spec.expert_id == "fake" else create_expert(spec)  # noqa: E731
    async with LiveMind(settings, create=create) as mind, run_server(create_app(mind), listener):
        gc.collect()
        gc.freeze()
        driver.stdin.write(b"\n")
        async with idle_loop() as idle_ms, watched() as ticks:
            said = await driver.stdout.read()
        gc.unfreeze()
    asked: list[dict[str, Any]] = [json.loads(line) for line in said.splitlines()]
    worst: dict[tuple[str, str, str], float] = defaultdict(float)
    for one in asked:
        within = [t.stalled_ms for t in ticks if one["began_s"] <= t.at_s <= one["ended_s"]]
        worst[one["expert"], one["door"], one["text"]] = max(within, default=0.0)
    figures = sorted(worst.items(), key=lambda pair: -pair[1])
    print(json.dumps({"asked": len(asked), "worst_ms": figures[:8], "idle_late_ms": idle_ms}))
    assert len(asked) == len(experts) * len(DOORS) * len(TEXTS)
    wrong = [one for one in asked if one["status"] not in ANSWERED]
    assert not wrong
    assert figures[0][1] <= MOST_MS, figures[:20]
