"""What is timed of an engine: llama.cpp's stream as its server writes it, and who falls short."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from livemind.benchmarks.bench import BenchmarkFailed
from livemind.benchmarks.cpu.engines import LlamaCpp, Timed, checked
from livemind.benchmarks.cpu.perplexity import perplexity

PROMPT = [5, 6, 7]
PAUSE_S = 0.05
VOCABULARY = 10


class Server:
    """Answers ``/completion`` with the events that a test sets; keeps what it was asked."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.asked: dict[str, Any] = {}
        self.status = 200
        self.prompts: list[list[int]] = []

    async def score(self, request: web.Request) -> web.Response:
        """Say of token n that its probability is the n-th of all, whatever came before."""
        told = await request.json()
        self.prompts.append(told["prompt"])
        top = [{"id": n, "logprob": -float(n)} for n in range(told["n_probs"])]
        return web.json_response({"completion_probabilities": [{"id": 0, "top_logprobs": top}]})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked = await request.json()
        response = web.StreamResponse(status=self.status)
        await response.prepare(request)
        for event in self.events:
            await asyncio.sleep(PAUSE_S)
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        return response


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def engine(server: Server) -> AsyncIterator[LlamaCpp]:
    app = web.Application()
    app.router.add_post("/completion", server.answer)
    async with TestServer(app) as running, aiohttp.ClientSession() as http:
        yield LlamaCpp(http, str(running.make_url("")).rstrip("/"), {}, 0, VOCABULARY)


@pytest.fixture
async def scorer(server: Server) -> AsyncIterator[LlamaCpp]:
    app = web.Application()
    app.router.add_post("/completion", server.score)
    async with TestServer(app) as running, aiohttp.ClientSession() as http:
        yield LlamaCpp(http, str(running.make_url("")).rstrip("/"), {}, 0, VOCABULARY)


async def test_llama_cpp_is_timed_by_its_tokens_and_caches_nothing(
    server: Server, engine: LlamaCpp
) -> None:
    server.events = [
        {"content": "a", "tokens": [1]},
        {"content": "", "tokens": []},
        {"content": "b", "tokens": [2]},
        {"content": "cd", "tokens": [3, 4]},
        {"content": "", "tokens": [], "stop": True},
    ]
    found = await engine.answer(PROMPT, 4)
    assert found.tokens == 4
    assert found.first_s >= PAUSE_S
    assert found.last_s - found.first_s >= 2 * PAUSE_S
    assert (server.asked["prompt"], server.asked["n_predict"]) == (PROMPT, 4)
    assert (server.asked["cache_prompt"], server.asked["ignore_eos"]) == (False, True)


async def test_llama_cpp_that_ends_early_or_fails_ends_the_run(
    server: Server, engine: LlamaCpp
) -> None:
    server.events = [{"content": "a", "tokens": [1]}]
    with pytest.raises(BenchmarkFailed, match="1 tokens where 4"):
        await engine.answer(PROMPT, 4)
    server.events = [{"error": {"message": "out of context"}}]
    with pytest.raises(BenchmarkFailed, match="out of context"):
        await engine.answer(PROMPT, 4)
    server.status = 503
    with pytest.raises(BenchmarkFailed, match="status 503"):
        await engine.answer(PROMPT, 4)


async def test_llama_cpp_scores_every_token_after_those_before_it(
    server: Server, scorer: LlamaCpp
) -> None:
    assert await scorer.scores([4, 2, 7]) == [-2.0, -7.0]
    assert server.prompts == [[4], [4, 2]]
    with pytest.raises(BenchmarkFailed, match="scored 1 of 2 tokens"):
        await scorer.scores([4, 2, VOCABULARY])


def test_perplexity_is_the_number_of_equally_likely_tokens() -> None:
    assert perplexity([math.log(1 / 8)] * 5) == pytest.approx(8.0)


def test_time_of_a_token_is_between_the_first_and_the_last() -> None:
    assert checked(Timed(1.0, 2.5, 4), 4).token_s == 0.5
