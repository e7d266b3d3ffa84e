"""The pool over real engines under random requests while engines are killed with -9."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter

import pytest

from livemind.backends.base import GenerationParams, Message, Priority
from livemind.backends.engine_args import ZOO_MODELS
from livemind.backends.errors import ExpertError
from livemind.backends.pool.pool import ExpertState, Pool
from livemind.backends.spec import ExpertSpec
from livemind.backends.vllm.expert import VllmExpert

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
IN_MEMORY = ("loading", "ready", "draining", "unloading")
MODELS = {"a": "fast", "b": "general", "c": "coding"}
ASKED, CLIENTS, KILLS, MAX_LOADED = 20, 6, 2, 2


class Watched:
    """Engines as they are made, and every state that the pool reports."""

    def __init__(self) -> None:
        self.engines: list[VllmExpert] = []
        self.states: dict[str, str] = {}
        self.most_loaded = 0
        self.seen: Counter[str] = Counter()

    def create(self, spec: ExpertSpec) -> VllmExpert:
        self.engines.append(VllmExpert(spec))
        return self.engines[-1]

    def changed(self, state: ExpertState) -> None:
        self.states[state.expert_id] = state.state
        self.seen[state.state] += 1
        loaded = sum(value in IN_MEMORY for value in self.states.values())
        self.most_loaded = max(self.most_loaded, loaded)
        if state.state == "unloading":
            assert state.users == state.waiting, "an expert with work is unloaded"

    def alive(self) -> list[int]:
        return [engine.process_ids()[0] for engine in self.engines if engine.process_ids()]


async def ask(pool: Pool, expert_id: str, request_id: str) -> int:
    """Answer once, trying again as a client would; return how often the answer ended."""
    for number in range(20):
        try:
            async with pool.acquire(expert_id) as expert:
                prompt = expert.render([Message("user", "Who are you?")], open_turn=False)
                ends = 0
                async for chunk in expert.generate(
                    prompt,
                    GenerationParams(max_tokens=8, temperature=0.0),
                    priority=Priority.FOREGROUND,
                    request_id=f"{request_id}.{number}",
                ):
                    ends += chunk.finish_reason is not None
                return ends
        except ExpertError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(0.3)
    return 0


async def test_pool_random_load_and_killed_engines_lose_and_double_nothing() -> None:
    watched, rng = Watched(), random.Random(1)
    specs = [
        ExpertSpec(name, model_path=str(ZOO_MODELS / model), kv_cache_gib=0.1, max_model_len=512)
        for name, model in MODELS.items()
    ]
    wanted = iter([(number, rng.choice("abc")) for number in range(ASKED)])
    ends: list[int] = []
    killed = 0

    async def client(pool: Pool) -> None:
        for number, expert_id in wanted:
            ends.append(await ask(pool, expert_id, f"r{number}"))

    async def kill() -> None:
        nonlocal killed
        while killed < KILLS:
            await asyncio.sleep(rng.uniform(0.2, 1.5))
            if alive := watched.alive():
                os.kill(rng.choice(alive), signal.SIGKILL)
                killed += 1

    pool = Pool(specs, create=watched.create, max_loaded=MAX_LOADED, on_change=watched.changed)
    async with pool, asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client(pool))
        group.create_task(kill())
    assert ends == [1] * ASKED
    assert killed == KILLS
    assert watched.most_loaded == MAX_LOADED
    assert watched.seen["unloading"] > 0
    assert watched.alive() == []
