"""Two keys on a real clock: one floods with 64 clients, the other asks now and then.

A scripted expert of a known speed, and an engine, whose steps take longer the more it answers.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from livemind.backends.base import Expert
from livemind.backends.fake import FakeExpert
from livemind.backends.registry import create_expert
from livemind.backends.spec import ExpertSpec
from livemind.benchmarks.harness.experts import zoo_experts
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.live_mind import LiveMind
from livemind.orchestrator.server.app import create_app, run_server

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(600)]

CLIENTS, ASKED = 64, 40
WORDS = "one two three four five six seven eight"


def scripted(spec: ExpertSpec) -> Expert:
    return FakeExpert("fake", answer=lambda messages: WORDS, ttft_s=0.05, token_s=0.02)


@asynccontextmanager
async def server(kind: str) -> Any:
    model = {"expert_id": "fake", "model_path": "fake"}
    if kind == "engine":
        pytest.importorskip("vllm", reason="needs the extra `cpu` or `gpu`")
        [model] = zoo_experts(["technical"])
    settings = Settings.model_validate(
        {
            "server": {"api_keys": ["flood", "quiet"]},
            "experts": [{**model, "max_num_seqs": 8}],
            "lazy_loading": {"enabled": False},
        }
    )
    listener = socket.create_server(("127.0.0.1", 0))
    create = create_expert if kind == "engine" else scripted
    async with (
        LiveMind(settings, create=create) as mind,
        run_server(create_app(mind), listener),
        aiohttp.ClientSession() as http,
    ):
        yield http, f"http://127.0.0.1:{listener.getsockname()[1]}/v1/chat/completions"


async def ttft_s(http: aiohttp.ClientSession, url: str, key: str) -> tuple[int, float]:
    body = {"messages": [{"role": "user", "content": "count"}], "stream": True}
    began = time.monotonic()
    headers = {"Authorization": f"Bearer {key}"}
    async with http.post(url, json=body, headers=headers) as response:
        first = 0.0
        async for line in response.content:
            if not first and b'"content":"' in line.replace(b": ", b":") and b'""' not in line:
                first = time.monotonic() - began
        return response.status, first


async def asked(http: aiohttp.ClientSession, url: str) -> tuple[list[int], float]:
    """Ask now and then; return the statuses and the 95th percentile of TTFT, seconds."""
    statuses, waits = [], []
    for _ in range(ASKED):
        status, waited = await ttft_s(http, url, "quiet")
        statuses.append(status)
        waits.append(waited)
        await asyncio.sleep(0.03)
    return statuses, sorted(waits)[int(0.95 * ASKED) - 1]


@pytest.mark.parametrize("kind", ["scripted", "engine"])
async def test_key_beside_one_that_floods_waits_at_most_twice_as_long(kind: str) -> None:
    async with server(kind) as (http, url):
        _, alone_s = await asked(http, url)
        flooding, seen = True, []

        async def flood() -> None:
            while flooding:
                seen.append((await ttft_s(http, url, "flood"))[0])

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(flood())
            await asyncio.sleep(1)
            statuses, beside_s = await asked(http, url)
            flooding = False
        figures = {
            "alone.ttft_s.p95": alone_s,
            "beside.ttft_s.p95": beside_s,
            "flood.answered": seen.count(200),
            "flood.refused": seen.count(429),
        }
        print(json.dumps(figures))
        assert set(statuses) == {200}
        assert set(seen) == {200}
        assert beside_s <= 2 * alone_s, figures
