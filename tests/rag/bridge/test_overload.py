"""Many clients with a deadline against a slow disk: nobody is answered late. On a virtual clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast
from unittest import mock

import numpy as np
from aiohttp import StreamReader
from aiohttp.test_utils import make_mocked_request

from livemind.rag.base import FloatArray
from livemind.rag.bridge.metrics import BridgeMetrics
from livemind.rag.bridge.retrieve import NO_TIME_TO_READ, BridgeSettings, RetrieveRoutes
from livemind.rag.encoder.worker import EmbedWorker
from livemind.rag.search.library import Library
from livemind.rag.store.base import Key, Scored, StoredPassage

T = TypeVar("T")
VirtualRun = Callable[[Coroutine[Any, Any, Any]], Any]

CLIENTS = 50
DEADLINE_S = 0.05
LATE_S = 0.02


class Store:
    """One passage that every search finds."""

    version = "v1"

    def dense(self, vector: FloatArray, k: int, where: object) -> list[Scored]:
        return [(1, 0.9)]

    def sparse(self, query: str, k: int, where: object) -> list[Scored]:
        return [(1, 2.0)]

    def passages(self, keys: list[Key]) -> dict[Key, StoredPassage]:
        return {key: StoredPassage("p", "d", "d.md", "text", "h", 1, {}) for key in keys}


class SlowDisk:
    """A library whose reads take ``read_s`` each, four at a time; what is in memory is fast."""

    def __init__(self, read_s: float, told_wait_s: float) -> None:
        self._read_s = read_s
        self._readers = asyncio.Semaphore(4)
        self.told_wait_s = told_wait_s

    def store(self, name: str) -> Store:
        return Store()

    def asks_with(self, store: Store, shared: T) -> T:
        return shared

    async def read(self, work: Callable[[], T]) -> T:
        async with self._readers:
            await asyncio.sleep(self._read_s)
            return work()

    def read_wait_s(self, expected: int) -> float:
        return self.told_wait_s if expected else 0.0

    async def search(self, work: Callable[[], T]) -> T:
        return work()


class Encoder:
    """Takes two milliseconds."""

    async def embed(self, text: str) -> FloatArray:
        await asyncio.sleep(0.002)
        return np.ones(3, np.float32)


async def overload(read_s: float, told_wait_s: float = 0.0) -> list[tuple[float, dict[str, Any]]]:
    """Return, for each client, when it was answered (seconds after asking) and with what."""
    routes = RetrieveRoutes(
        cast(Library, SlowDisk(read_s, told_wait_s)), cast(EmbedWorker, Encoder()),
        BridgeSettings(max_concurrent=CLIENTS), BridgeMetrics(), None,
    )  # fmt: skip
    loop = asyncio.get_running_loop()

    async def client(number: int) -> tuple[float, dict[str, Any]]:
        body = {
            "query": "where is it", "session_id": f"s{number}", "revision": 1,
            "deadline_ms": DEADLINE_S * 1000.0,
        }  # fmt: skip
        payload = StreamReader(mock.Mock(_reading_paused=False), 2**16, loop=loop)
        payload.feed_data(json.dumps(body).encode())
        payload.feed_eof()
        began = loop.time()
        answer = await routes.retrieve(make_mocked_request("POST", "/", payload=payload))
        return loop.time() - began, json.loads(answer.text or "")

    return await asyncio.gather(*(client(number) for number in range(CLIENTS)))


def test_retrieve_slow_disk_answers_every_client_by_its_deadline_and_says_what_is_missing(
    virtual_run: VirtualRun,
) -> None:
    answers = virtual_run(overload(read_s=0.2))
    assert max(seconds for seconds, _ in answers) <= DEADLINE_S + LATE_S
    for _, answer in answers:
        assert "deadline: sparse" in answer["degraded"]
        assert answer["results"] == []


def test_retrieve_disk_that_keeps_up_with_some_clients_degrades_only_the_others(
    virtual_run: VirtualRun,
) -> None:
    answers = virtual_run(overload(read_s=0.0015))
    assert max(seconds for seconds, _ in answers) <= DEADLINE_S + LATE_S
    complete = [answer for _, answer in answers if not answer["degraded"]]
    degraded = [answer for _, answer in answers if answer["degraded"]]
    assert complete
    assert degraded
    assert all(answer["results"] for answer in complete)


def test_retrieve_fast_disk_leaves_nobody_degraded(virtual_run: VirtualRun) -> None:
    answers = virtual_run(overload(read_s=0.0001))
    assert [answer["degraded"] for _, answer in answers] == [[]] * CLIENTS


def test_retrieve_disk_known_to_be_too_slow_asks_it_for_one_and_answers_the_others_at_once(
    virtual_run: VirtualRun,
) -> None:
    answers = virtual_run(overload(read_s=0.2, told_wait_s=0.2))
    assert sorted(seconds for seconds, _ in answers)[-2] == 0.0
    told = [answer["degraded"] for _, answer in answers]
    assert told.count([NO_TIME_TO_READ]) == CLIENTS - 1
    assert all(told)
