"""The way to an expert, for many keys on a virtual clock."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from livemind.orchestrator.errors import Overloaded
from livemind.orchestrator.fairness.asker import Asker, asker
from livemind.orchestrator.fairness.places import Places

VirtualRun = Callable[[Coroutine[Any, Any, Any]], Any]
SERVICE_S = 1.0


def key(name: str, **limits: int) -> Asker:
    return Asker(f"owner of {name}", name, **limits)


async def ask(places: Places, expert: str = "e", prompt: int = 100, answer: int = 0) -> float:
    """Ask once; return how long it waited."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with places.place(expert, prompt) as used:
        waited = loop.time() - began
        await asyncio.sleep(SERVICE_S)
        used(answer)
    return waited


def test_thousand_keys_of_which_ten_flood_wait_alike_at_two_experts(
    virtual_run: VirtualRun,
) -> None:
    served: Counter[str] = Counter()
    waits: defaultdict[str, list[float]] = defaultdict(list)

    async def client(places: Places, who: Asker, expert: str) -> None:
        asker.set(who)
        loop = asyncio.get_running_loop()
        while loop.time() < 220:
            waited = await ask(places, expert)
            if 20 < loop.time() <= 220:
                served[who.name] += 1
                waits[who.name].append(waited)

    async def run() -> None:
        places = Places({"local": 60, "remote": 60}, most=100, wait_s=600)
        async with asyncio.TaskGroup() as group:
            for number in range(1000):
                who = key(f"key-{number}")
                for _ in range(21 if number < 10 else 1):
                    expert = "local" if number % 2 else "remote"
                    group.create_task(client(places, who, expert))
        assert places.waiting == 0

    virtual_run(run())
    assert len(served) == 1000
    assert sum(served.values()) >= 0.95 * 200 * 100
    quiet = [served[f"key-{number}"] for number in range(10, 1000)]
    assert max(served.values()) <= 1.25 * min(quiet)
    assert max(max(waits[f"key-{number}"]) for number in range(10, 1000)) < 15


def test_key_with_a_limit_of_turns_waits_and_holds_up_no_other_key(virtual_run: VirtualRun) -> None:
    async def run() -> None:
        places = Places({"e": 4}, most=8)

        async def small() -> None:
            asker.set(key("small", max_turns=1))
            await ask(places)

        async def other() -> float:
            asker.set(key("other"))
            return await ask(places)

        began = asyncio.get_running_loop().time()
        waiting = [asyncio.create_task(small()) for _ in range(5)]
        await asyncio.sleep(0.1)
        assert places.waiting == 4
        assert await asyncio.create_task(other()) == 0
        await asyncio.gather(*waiting)
        assert asyncio.get_running_loop().time() - began == pytest.approx(5 * SERVICE_S)

    virtual_run(run())


def test_key_gets_its_tokens_a_minute_and_not_more(virtual_run: VirtualRun) -> None:
    async def run() -> None:
        places, done = Places({"e": 64}), 0
        loop = asyncio.get_running_loop()

        async def client() -> None:
            nonlocal done
            asker.set(key("k", tokens_per_minute=6000))
            while True:
                await ask(places, prompt=100, answer=100)
                done += 1

        tasks = [asyncio.create_task(client()) for _ in range(16)]
        await asyncio.sleep(600)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert loop.time() == pytest.approx(600)
        # a minute's worth at once, then 6000 a minute; what runs may be owed
        assert 10.5 * 6000 <= 200 * done <= 11.5 * 6000

    virtual_run(run())


def test_wait_that_is_too_long_is_refused_with_the_time_to_come_back_and_pays_nothing(
    virtual_run: VirtualRun,
) -> None:
    async def run() -> None:
        asker.set(key("k", tokens_per_minute=600))
        places = Places({"e": 1}, wait_s=10)
        await ask(places, prompt=1200)  # 600 are owed: a minute
        with pytest.raises(Overloaded, match="600 tokens a minute") as refused:
            await ask(places)
        assert refused.value.code == "tokens_per_minute_exceeded"
        assert refused.value.retry_after_s == pytest.approx(49, abs=1)
        await asyncio.sleep(50)
        async with places.place("e", 100):
            with pytest.raises(Overloaded, match="turn_wait_s") as refused:
                await ask(places, prompt=100)
            assert refused.value.code == "too_many_turns"
        assert places.waiting == 0
        owed_s = places._of(key("k", tokens_per_minute=600)).tokens
        assert owed_s is not None
        assert owed_s.wait_s() <= 10

    virtual_run(run())


def test_requests_of_nobody_wait_for_the_server_alone(virtual_run: VirtualRun) -> None:
    async def run() -> None:
        places = Places({"e": 1}, most=3)
        waits = await asyncio.gather(*(ask(places) for _ in range(4)))
        assert sorted(waits) == pytest.approx([0, 0, 0, SERVICE_S])

    virtual_run(run())


def test_speculation_of_a_key_stops_at_its_tokens_a_minute(virtual_run: VirtualRun) -> None:
    async def run() -> None:
        places = Places()
        assert places.may_speculate()
        asker.set(key("k", speculated_tokens_per_minute=600))
        places.speculated(600)
        assert places.may_speculate()
        places.speculated(10)
        assert not places.may_speculate()
        await asyncio.sleep(1)
        assert places.may_speculate()
        asker.set(key("other"))
        places.speculated(10**9)
        assert places.may_speculate()

    virtual_run(run())
