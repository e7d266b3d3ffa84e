"""Fair shares between keys, simulated on a virtual clock."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from livemind.orchestrator.fairness.asker import Asker, asker, own_salt
from livemind.orchestrator.fairness.places import Places
from livemind.orchestrator.fairness.queue import FairQueue
from livemind.orchestrator.fairness.shares import Shares

VirtualRun = Callable[[Coroutine[Any, Any, Any]], Any]
SERVICE_S = 1.0
TOKENS = 1024


async def client(
    queue: FairQueue, owner: str, until_s: float, served: Counter[str], from_s: float = 0.0
) -> None:
    loop = asyncio.get_running_loop()
    while loop.time() < until_s:
        async with queue.slot(owner, TOKENS):
            await asyncio.sleep(SERVICE_S)
            served[owner] += from_s < loop.time() <= until_s


def test_thousand_keys_get_equal_parts_however_many_clients_they_have(
    virtual_run: VirtualRun,
) -> None:
    async def run() -> None:
        queue, served = FairQueue(100), Counter[str]()
        async with asyncio.TaskGroup() as group:
            for number in range(1000):
                for _ in range(1 + 20 * (number < 10)):
                    group.create_task(client(queue, f"key-{number}", 220.0, served, 20.0))
        assert sum(served.values()) >= 200 * 100
        assert max(served.values()) <= 1.25 * min(served.values())

    virtual_run(run())


def test_key_that_asks_now_and_then_is_not_held_up_by_one_that_floods(
    virtual_run: VirtualRun,
) -> None:
    waits: list[float] = []

    async def quiet(queue: FairQueue) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(20):
            began = loop.time()
            async with queue.slot("quiet", 500):
                waits.append(loop.time() - began)
                await asyncio.sleep(SERVICE_S)
            await asyncio.sleep(0.37)

    async def run() -> None:
        queue, served = FairQueue(8), Counter[str]()
        async with asyncio.TaskGroup() as group:
            floods = [group.create_task(client(queue, "flood", 60.0, served)) for _ in range(64)]
            await asyncio.sleep(3)
            await quiet(queue)
            for task in floods:
                task.cancel()
        assert served["flood"] > 100

    virtual_run(run())
    assert max(waits) == 0.0


def test_long_requests_cost_more_turns_than_short_ones(virtual_run: VirtualRun) -> None:
    tokens: defaultdict[str, int] = defaultdict(int)

    async def ask(queue: FairQueue, owner: str, cost: int) -> None:
        with suppress(asyncio.CancelledError):
            while True:
                async with queue.slot(owner, cost):
                    await asyncio.sleep(SERVICE_S)
                    tokens[owner] += cost

    async def run() -> None:
        queue = FairQueue(1)
        tasks = [
            asyncio.create_task(ask(queue, owner, cost))
            for owner, cost in (("long", 4000), ("short", 500))
            for _ in range(8)
        ]
        await asyncio.sleep(400)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)

    virtual_run(run())
    assert 0.6 < tokens["short"] / tokens["long"] < 1.7


def test_request_that_is_cancelled_while_it_waits_leaves_nothing(virtual_run: VirtualRun) -> None:
    async def run() -> None:
        queue, served = FairQueue(1), Counter[str]()
        async with queue.slot("a", 1):
            waiting = [asyncio.create_task(client(queue, "b", 1.0, served)) for _ in range(3)]
            await asyncio.sleep(0.1)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        async with asyncio.timeout(1), queue.slot("c", 10**9):
            pass
        assert not served

    virtual_run(run())


def test_nobody_waits_without_a_key_or_at_an_expert_without_a_limit(
    virtual_run: VirtualRun,
) -> None:
    async def run() -> None:
        places = Places({"small": 1})
        async with places.place("small", 1), places.place("small", 1), places.place("big", 1):
            pass
        asker.set(Asker("owner", "name"))
        async with places.place("small", 1), places.place("big", 1):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5), places.place("small", 1):
                    pass

    virtual_run(run())


def test_shares_leave_something_for_whoever_comes_next() -> None:
    shares = Shares(64)
    while not shares.full("greedy"):
        shares.take("greedy")
    assert shares.of("greedy") == 48
    for number in range(10):
        assert not shares.full(f"key-{number}")
        shares.take(f"key-{number}")
    while not shares.full("second"):
        shares.take("second")
    assert shares.held < 64
    for _ in range(48):
        shares.give_back("greedy")
    assert not shares.full("second")


def test_shares_without_keys_are_the_whole() -> None:
    shares = Shares(3)
    for _ in range(3):
        assert not shares.full(None)
        shares.take(None)
    assert shares.full(None)
    assert shares.full("a")


def test_salt_is_the_keys_own_unless_it_is_shared() -> None:
    assert own_salt(None) is None
    assert own_salt("x") == "x"
    token = asker.set(Asker("a" * 64, "one"))
    mine = own_salt(None)
    assert own_salt("shared") is None
    assert own_salt("x") == f"{mine}:x"
    asker.reset(token)
    token = asker.set(Asker("b" * 64, "two"))
    assert own_salt(None) != mine
    assert own_salt("x") != f"{mine}:x"
    asker.reset(token)
