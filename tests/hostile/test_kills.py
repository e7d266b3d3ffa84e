"""Processes of a real server are killed at random while clients ask: turns end, all returns.

Engines, their fork server, the bridge, whatever the server has started; at last the server itself.
Three kills a round (``LIVEMIND_HOSTILE``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from livemind.benchmarks.harness.experts import ROUTED, handbook_config
from livemind.benchmarks.harness.server_process import free_port, running

from .conftest import ROUNDS
from .test_remote import NAMED, check_error

pytest.importorskip("vllm", reason="needs the extra `cpu` or `gpu`")
pytestmark = [pytest.mark.hostile, pytest.mark.slow, pytest.mark.timeout(60 + 120 * ROUNDS)]

KILLS = 3 * ROUNDS
EXPERTS = ("fast", "general")
CLIENTS = 2
RETURNS_WITHIN_S = 120.0
QUESTIONS = ("What is the price of Quince?", "Who is the owner of Poppy?", "Hello, who are you?")
MOST_GROWTH = 1.05


@dataclass
class Seen:
    """How turns ended, and what was killed."""

    ended: Counter[str] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)


def config(bridge_url: str) -> dict[str, Any]:
    whole = handbook_config(ROUTED, bridge_url)
    return {
        **whole,
        "experts": [one for one in whole["experts"] if one["expert_id"] in EXPERTS],
        "domains": {"general": whole["domains"]["general"]},
        "lazy_loading": {"warmup_pool_size": len(EXPERTS), "max_loaded_experts": len(EXPERTS)},
    }


async def ask(http: aiohttp.ClientSession, url: str, question: str, seen: Seen) -> None:
    """Ask over chat completions, as a stream."""
    body = {"messages": [{"role": "user", "content": question}], "stream": True, "max_tokens": 24}
    async with http.post(f"{url}/v1/chat/completions", json=body) as response:
        text = await response.text()
    if response.status != 200:
        assert response.status in NAMED, (response.status, text)
        check_error("chat", json.loads(text)["error"], text)
        seen.ended["refused"] += 1
        return
    parts = [block[6:] for block in text.split("\n\n") if block.startswith("data: ")]
    ends = [part for part in parts if part == "[DONE]" or "error" in json.loads(part)]
    assert ends, text[-500:]
    errors = [json.loads(part)["error"] for part in ends if part != "[DONE]"]
    for error in errors:
        check_error("chat", error, text)
    seen.ended["failed" if errors else "completed"] += 1


async def type_live(
    http: aiohttp.ClientSession, url: str, question: str, seen: Seen, random: Random
) -> None:
    """Type a question word by word and commit it; it ends once."""
    ends: list[dict[str, Any]] = []
    async with http.ws_connect(url.replace("http", "ws") + "/v1/live") as socket:

        async def read() -> None:
            async for message in socket:
                event = json.loads(message.data)
                assert event["type"] != "error", event
                if event["type"] == "response.done":
                    ends.append(event)

        reading = asyncio.create_task(read())
        await socket.send_json({"type": "session.update"})
        for word in question.split():
            await socket.send_json({"type": "input_text.append", "text": f"{word} "})
            await asyncio.sleep(0.2 * random.random())
        await socket.send_json({"type": "input_text.commit", "text": question})
        async with asyncio.timeout(RETURNS_WITHIN_S):
            while not ends and not reading.done():  # noqa: ASYNC110 - nothing to subscribe to
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.05)  # a second end would come now
        if reading.done():
            reading.result()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert len(ends) == 1, ends
    if ends[0]["status"] == "failed":
        check_error("live", ends[0]["error"], json.dumps(ends[0]["error"]))
    seen.ended[ends[0]["status"]] += 1


async def person(http: aiohttp.ClientSession, url: str, number: int, seen: Seen) -> None:
    random = Random(number)
    while True:
        question = random.choice(QUESTIONS)
        if random.random() < 0.5:
            await ask(http, url, question, seen)
        else:
            await type_live(http, url, question, seen, random)
        await asyncio.sleep(0.1)


def processes(server: psutil.Process) -> dict[str, psutil.Process]:
    """Return what the server has started, by kind."""
    found: dict[str, psutil.Process] = {}
    for child in server.children(recursive=True):
        try:
            words = " ".join(child.cmdline())
            name = child.name()
        except psutil.Error:
            continue
        for kind, sign in (
            ("engine", "EngineCore"),
            ("bridge", "bridge"),
            ("forks", "forkserver"),
            ("tracker", "resource_tracker"),
        ):
            if sign in words or sign in name:
                found[f"{kind}-{child.pid}" if kind == "engine" else kind] = child
                break
    return found


async def back(http: aiohttp.ClientSession, url: str, bridge_url: str) -> None:
    """Wait until the bridge is there again and every expert answers."""
    async with asyncio.timeout(RETURNS_WITHIN_S):
        for expert in EXPERTS:
            body = {"model": expert, "messages": [{"role": "user", "content": QUESTIONS[0]}]}
            while True:
                async with http.post(f"{url}/v1/chat/completions", json=body) as response:
                    if response.status == 200:
                        break
                await asyncio.sleep(0.5)
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"{bridge_url}/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.5)


async def count(http: aiohttp.ClientSession, url: str, name: str, **labels: str) -> float:
    async with http.get(f"{url}/metrics") as response:
        families = text_string_to_metric_families(await response.text())
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def test_turns_end_and_everything_returns_whatever_process_is_killed(tmp_path: Path) -> None:
    random, seen, resident = Random(KILLS), Seen(), []
    log = tmp_path / "server.log"
    bridge_url = f"http://127.0.0.1:{free_port()}"
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(running(config(bridge_url), tmp_path, log))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        mine = psutil.Process()
        [server] = [p for p in mine.children() if str(tmp_path) in " ".join(p.cmdline())]
        await back(http, url, bridge_url)
        people = [asyncio.create_task(person(http, url, n, seen)) for n in range(CLIENTS)]
        for _ in range(KILLS):
            await asyncio.sleep(2 * random.random())
            alive = processes(server)
            kind = random.choice(sorted(alive))
            alive[kind].kill()
            seen.killed[kind.partition("-")[0]] += 1
            await back(http, url, bridge_url)
            resident.append(server.memory_info().rss)
            assert not any(one.done() for one in people), [one for one in people if one.done()]
        for one in people:
            one.cancel()
        await asyncio.gather(*people, return_exceptions=True)
        failed = await count(http, url, "livemind_turns_total", status="failed")
        counted = await count(http, url, "livemind_turn_failures_total")
        explained = re.findall(r"turn \S+ failed: .*", log.read_text())
        print(json.dumps({"ended": seen.ended, "killed": seen.killed, "resident": resident}))
        assert seen.ended["completed"] > KILLS
        assert len(explained) == len(set(explained)) == failed == counted
        # multiprocessing's tracker, started anew, tells of names that it never saw
        traces = re.findall(r'File "\S+/(\w+)/\w+\.py", line', log.read_text())
        assert set(traces) <= {"multiprocessing"}, traces
        if (sixth := len(resident) // 6) > 1:
            assert max(resident[-sixth:]) <= MOST_GROWTH * max(resident[sixth : 2 * sixth])
        left = server.children(recursive=True)
        os.kill(server.pid, signal.SIGKILL)
        _, alive_still = await asyncio.to_thread(psutil.wait_procs, left, 10)
        assert not alive_still
