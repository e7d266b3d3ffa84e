"""A live turn on a real vLLM engine, through the real server and real sockets."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer

from livemind import LiveMind, ResponseDone, Settings
from livemind.client import LiveClient
from livemind.orchestrator.server.app import create_app

pytest.importorskip("vllm", reason="needs the extra `cpu` or `gpu`")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]

DOCUMENT = "the handbook says that every machine has a port and an owner. " * 12
QUESTION = "which port does the second machine of the first floor have?"
SAMPLING = {"temperature": 0, "max_tokens": 24}


@dataclass(frozen=True)
class Running:
    """A server on one engine with random weights."""

    mind: LiveMind
    url: str

    async def socket(self, session: aiohttp.ClientSession, **update: Any) -> Any:
        socket = await session.ws_connect(f"{self.url}/v1/live")
        await socket.send_json({"type": "session.update", **update})
        return socket


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    from livemind.backends.zoo.random_weights import write_random_model

    folder = tmp_path_factory.mktemp("random-2m")
    write_random_model(folder, 2_000_000)
    expert = {
        "expert_id": "random-2m",
        "model_path": str(folder),
        "dtype": "float32",
        "max_model_len": 2048,
        "kv_cache_gib": 0.25,
    }
    settings = Settings.model_validate({"experts": [expert]})
    async with LiveMind.from_config(settings) as mind, TestServer(create_app(mind)) as server:
        yield Running(mind, str(server.make_url("")).rstrip("/"))


async def until_done(socket: Any) -> list[dict[str, Any]]:
    seen = []
    while True:
        event = await socket.receive_json(timeout=60)
        seen.append(event)
        if event["type"] in ("response.done", "error"):
            return seen


def text_of(seen: list[dict[str, Any]]) -> str:
    return "".join(e["delta"] for e in seen if e["type"] == "response.output_text.delta")


async def test_typed_turn_adopts_its_draft_and_equals_the_answer_at_end(running: Running) -> None:
    async with aiohttp.ClientSession() as session:
        socket = await running.socket(session, documents=[DOCUMENT], sampling=SAMPLING)
        typed = ""
        for word in QUESTION.split(" "):
            typed += word + " "
            await socket.send_json({"type": "input_text.append", "text": word + " "})
            await asyncio.sleep(0.1)
        drafts = 0
        while drafts == 0:
            event = await socket.receive_json(timeout=60)
            drafts += event["type"] == "draft.created"
        await asyncio.sleep(2)
        await socket.send_json({"type": "input_text.commit"})
        seen = await until_done(socket)
        await socket.close()
    done = seen[-1]
    assert done["status"] == "completed", done
    assert "draft.adopted" in [event["type"] for event in seen]
    assert done["ledger"]["draft_adopted"] > 0
    assert done["usage"]["cached_tokens"] >= 96
    client = openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none")
    plain = await client.chat.completions.create(
        model="random-2m",
        messages=[{"role": "user", "content": typed}],
        extra_body={"documents": [DOCUMENT], "speculation": "off"},
        temperature=SAMPLING["temperature"],
        max_tokens=SAMPLING["max_tokens"],
    )
    await client.close()
    assert text_of(seen) == plain.choices[0].message.content


async def test_vanished_client_frees_the_engine(running: Running) -> None:
    async with aiohttp.ClientSession() as session:
        sampling = {"temperature": 0, "max_tokens": 1500, "ignore_eos": True}
        socket = await running.socket(session, sampling=sampling)
        await socket.send_json({"type": "input_text.commit", "text": "a long story please"})
        while (await socket.receive_json(timeout=60))["type"] != "response.output_text.delta":
            pass
        assert running.mind.stats()["answering"] == 1
        socket._response.connection.transport.abort()
        async with asyncio.timeout(10):
            while running.mind.stats()["answering"] or running.mind.stats()["sessions"]:
                await asyncio.sleep(0.05)


@pytest.mark.live
async def test_two_hundred_newer_commits_each_end_the_answer_before(running: Running) -> None:
    rng, answers = random.Random(17), []
    async with LiveClient(running.url) as client, client.session(sampling=SAMPLING) as session:
        for number in range(200):
            session.replace(f"question {number} about")
            await asyncio.sleep(rng.uniform(0, 0.15))
            answers.append(session.commit(f"question {number} about the port?"))
            await asyncio.sleep(rng.uniform(0, 0.15))
        ends = [[event async for event in answer][-1] for answer in answers]
    statuses = [end.status for end in ends if isinstance(end, ResponseDone)]
    assert (len(statuses), statuses[-1]) == (200, "completed")
    assert set(statuses) == {"completed", "cancelled"}
    assert [state.users for state in running.mind.expert_states()] == [0]


@pytest.mark.live
async def test_two_hundred_requests_after_a_stream_that_was_left_are_all_answered(
    running: Running,
) -> None:
    rng = random.Random(18)
    async with aiohttp.ClientSession() as http:
        opened = await (await http.post(f"{running.url}/v1/live/sessions", json={})).json()
        chat = {"model": "random-2m", "stream": True, **SAMPLING}
        headers = {"X-LiveMind-Session": opened["id"]}
        for number in range(200):
            asked = {"role": "user", "content": f"question {number} about the port?"}
            async with http.post(
                f"{running.url}/v1/chat/completions",
                json={**chat, "messages": [asked]},
                headers=headers,
            ) as response:
                assert response.status == 200, await response.text()
                assert response.headers["X-LiveMind-Session-Status"] == "adopted"
                await asyncio.sleep(rng.uniform(0, 0.15))
                if number == 199:
                    assert b"[DONE]" in await response.read()


async def test_killed_engine_fails_the_turn_once_and_answers_the_next(running: Running) -> None:
    async with aiohttp.ClientSession() as session:
        sampling = {"temperature": 0, "max_tokens": 1500, "ignore_eos": True}
        socket = await running.socket(session, sampling=sampling)
        await socket.send_json({"type": "input_text.commit", "text": "a long story please"})
        while (await socket.receive_json(timeout=60))["type"] != "response.output_text.delta":
            pass
        for pid in engine_processes():
            os.kill(pid, signal.SIGKILL)
        seen = await until_done(socket)
        assert seen[-1]["type"] == "response.done"
        assert seen[-1]["status"] == "failed"
        assert seen[-1]["error"]["code"] == "expert_unavailable"
        async with asyncio.timeout(120):
            while running.mind.experts()[0].state != "ready":
                await asyncio.sleep(0.2)
        await socket.send_json({"type": "session.update", "sampling": SAMPLING})
        await socket.send_json({"type": "input_text.commit", "text": "and again"})
        again = await until_done(socket)
        assert again[-1]["status"] == "completed"
        await socket.close()


def engine_processes() -> list[int]:
    """Pids of the EngineCores that this process has, forked ones included."""
    import psutil

    return [
        child.pid
        for child in psutil.Process().children(recursive=True)
        if "EngineCore" in Path(f"/proc/{child.pid}/comm").read_text()
        or "EngineCore" in " ".join(child.cmdline())
    ]
