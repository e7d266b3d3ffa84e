"""Frames, bodies and bytes that are nearly right, at every door: what is wrong is refused by name.

One terminal event a turn, no status or code without a name, no second answer, each failed turn
explained. ``LIVEMIND_HOSTILE`` multiplies how much is sent.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from livemind.backends.errors import ExpertUnavailable
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.live_mind import LiveMind
from livemind.orchestrator.server.app import create_app, run_server
from livemind.orchestrator.server.state import STATE
from livemind.rag.bridge.retrieve import BridgeSettings
from livemind.rag.bridge.server import serve_bridge
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.encoder.worker import EmbedWorker
from livemind.rag.search.library import Library

from . import nonsense
from .conftest import ROUNDS, Gateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

CONNECTIONS, FRAMES, BODIES, WIRES = 8 * ROUNDS, 40, 60 * ROUNDS, 20 * ROUNDS
JSON = {"Content-Type": "application/json"}
BROKEN = {"Content-Encoding": "gzip", "Connection": "close"}
HEADERS: tuple[dict[str, str], ...] = (
    {"Content-Type": "text/plain"},
    {"X-LiveMind-Session": "sess_x"},
    {"Authorization": "Bearer \xff"},
    BROKEN,
    {"X-Request-Id": "x" * 500},
    {"Origin": "http://there.example"},
)
NAMED = {200, 201, 202, 204, 400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 421, 422, 429, 503}
WARM_UP = 3


class Faltering(FakeExpert):
    """Fails one question of four, and is slow enough to be interrupted."""

    def __init__(self) -> None:
        super().__init__("fake", ttft_s=0.001, token_s=0.0005)
        self._random = Random(4)

    def render(self, messages: Any, *, open_turn: bool) -> Any:
        refuses = not open_turn and self._random.random() < 0.25
        self.refuse = (
            ExpertUnavailable("fake", "it faltered", shown="faltered") if refuses else None
        )
        return super().render(messages, open_turn=open_turn)


@asynccontextmanager
async def gateway() -> AsyncIterator[Gateway]:
    settings = Settings.model_validate(
        {
            "experts": [{"expert_id": "fake", "model_path": "fake"}],
            "lazy_loading": {"enabled": False},
            "server": {"max_sessions": 64},
        }
    )
    listener = socket.create_server(("127.0.0.1", 0))
    async with LiveMind(settings, create=lambda spec: Faltering()) as mind:
        app = create_app(mind)
        async with run_server(app, listener), aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            yield Gateway(url, app[STATE], http)


@asynccontextmanager
async def bridge(folder: Path) -> AsyncIterator[str]:
    embedder = FakeEmbedder()
    library, worker = Library.in_folder(folder / "kept", embedder), EmbedWorker(embedder)
    try:
        async with serve_bridge(
            library, worker, port=0, settings=BridgeSettings(writable=True)
        ) as url:
            yield url
    finally:
        embedder.gate.set()
        await worker.aclose()
        await library.aclose()


def check_explained(running: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    failed = running.count("livemind_turns_total", status="failed")
    explained = [text for text in caplog.messages if re.match(r"turn \S+ failed: ", text)]
    assert len(explained) == failed == running.count("livemind_turn_failures_total")
    assert len(set(explained)) == len(explained)
    assert running.count("livemind_turn_failures_total", code="internal_error") == 0
    wrong = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not wrong, wrong[0].getMessage()


async def talk(
    running: Gateway, path: str, random: Random, frame: Callable[[Random], dict[str, Any]]
) -> Counter[str]:
    """Send nonsense over one WebSocket; return its turns by how they ended."""
    ended: dict[str, str] = {}
    begun: set[str] = set()
    url = running.url.replace("http", "ws") + path
    async with running.http.ws_connect(url, max_msg_size=0) as ws:

        async def read() -> None:
            async for message in ws:
                event = json.loads(message.data)
                if event["type"] == "error":
                    code = event["error"]["code"]
                    assert code not in (None, "", "internal_error"), event
                    assert len(message.data) < 5000
                elif event["type"] == "response.created":
                    begun.add(id_of(event))
                elif event["type"] == "response.done":
                    assert id_of(event) not in ended, event
                    ended[id_of(event)] = event.get("status") or event["response"]["status"]

        reading = asyncio.create_task(read())
        if path == "/v1/live":
            await ws.send_str('{"type": "session.update", "speculation": "draft"}')
        for _ in range(FRAMES):
            if random.random() < 0.03:
                await ws.send_bytes(b"\0\1")
            else:
                await ws.send_str(nonsense.encoded(random, frame(random)))
            if random.random() < 0.3:
                await asyncio.sleep(random.random() / 100)
        quiet = 0
        async with asyncio.timeout(60):
            while quiet < 20 and not reading.done():
                quiet = 0 if begun - ended.keys() else quiet + 1  # a second end would come now
                await asyncio.sleep(0.005)
        if reading.done():
            assert ws.close_code not in (1006, 1011), ws.close_code
            await reading
        assert begun <= ended.keys()
        if random.random() < 0.5:
            await ws.close()
        reading.cancel()  # gone without a word
        await asyncio.gather(reading, return_exceptions=True)
    return Counter(ended.values())


def id_of(event: dict[str, Any]) -> str:
    return str(event.get("response_id") or event["response"]["id"])


@pytest.mark.parametrize(
    ("path", "frame"),
    [("/v1/live", nonsense.live_frame), ("/v1/realtime", nonsense.realtime_frame)],
)
async def test_frames_that_are_nearly_right_end_every_turn_once(
    path: str, frame: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with gateway() as running:
        ended: Counter[str] = Counter()
        for first in range(0, CONNECTIONS, 4):
            talks = (talk(running, path, Random(first + n), frame) for n in range(4))
            for one in await asyncio.gather(*talks):
                ended += one
        await quiet(running)
        assert ended["completed"] >= ROUNDS
        assert running.count("livemind_turns_total") >= ended.total()
        assert running.count("livemind_turns_total", status="failed") > 0
        check_explained(running, caplog)


async def quiet(running: Gateway) -> None:
    async with asyncio.timeout(20):
        while len(running.state.in_flight) or len(running.state.registry):  # noqa: ASYNC110 - nothing to subscribe to
            await asyncio.sleep(0.01)


async def send(http: aiohttp.ClientSession, url: str, random: Random, body: object) -> str:
    """Send a body with a method and headers that may be wrong; return the answer's text."""
    method = random.choice(("POST", "POST", "POST", "PUT", "GET", "DELETE", "PATCH"))
    headers = dict(JSON)
    if random.random() < 0.1:
        headers = {**JSON, **random.choice(HEADERS)}
    data = nonsense.encoded(random, body).encode("utf-8", "surrogatepass")
    async with http.request(method, url, data=data, headers=headers) as response:
        text = await response.text()
        assert response.status in NAMED, (method, url, data[:500], response.status, text[:500])
        if response.status >= 400:
            error = json.loads(text)["error"]
            assert error["code"] not in (None, "", "internal_error"), (data[:500], error)
            assert error["message"]
            assert len(text) < 5000
        assert "HTTP/1." not in text, text[-500:]
        return text if response.status < 400 else ""


async def test_bodies_that_are_nearly_right_are_answered_or_refused_by_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    random = Random(1)
    async with gateway() as running:
        made: list[str] = []
        for _ in range(BODIES):
            for path, body in nonsense.bodies(random).items():
                text = await send(
                    running.http, running.url + path, random, nonsense.mutated(random, body)
                )
                if path == "/v1/live/sessions" and '"sess' in text:
                    made.append(json.loads(text)["id"])
            there = f"{running.url}/v1/live/sessions/{random.choice(made) if made else 'none'}"
            given = {"text": random.choice(nonsense.TEXT), "revision": random.randrange(9)}
            for path in ("/input", "", "/nothing"):
                await send(running.http, there + path, random, nonsense.mutated(random, given))
        await quiet_requests(running)
        assert running.count("livemind_turns_total", status="completed") > BODIES / 4
        check_explained(running, caplog)


async def quiet_requests(running: Gateway) -> None:
    async with asyncio.timeout(20):
        while len(running.state.in_flight):  # noqa: ASYNC110 - nothing to subscribe to
            await asyncio.sleep(0.01)


async def test_bridge_answers_or_refuses_by_name_what_is_nearly_right(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    random = Random(2)
    async with bridge(tmp_path) as url, aiohttp.ClientSession() as http:
        for _ in range(BODIES):
            for path, body in nonsense.bridge_bodies(random).items():
                await send(http, url + path, random, nonsense.mutated(random, body))
        async with http.get(f"{url}/v1/collections") as response:
            assert response.status == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def poke(address: tuple[str, int], data: bytes) -> bytes:
    """Send bytes, read until the server closes or says nothing for a while."""
    reader, writer = await asyncio.open_connection(*address)
    answer = b""
    try:
        writer.write(data)
        async with asyncio.timeout(0.3):
            while block := await reader.read(65536):
                answer += block
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return answer


async def test_bytes_that_are_no_http_get_one_answer_at_most(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    random = Random(3)
    async with gateway() as running, bridge(tmp_path) as bridge_url:
        for url, path in (
            (running.url, "/v1/live"), (running.url, "/v1/realtime"), (bridge_url, "/v1/retrieve")
        ):  # fmt: skip
            port = int(url.rpartition(":")[2])
            for _ in range(0, WIRES, 10):
                sent = [nonsense.on_the_wire(random, path) for _ in range(10)]
                answers = await asyncio.gather(*(poke(("127.0.0.1", port), one) for one in sent))
                for one, answer in zip(sent, answers, strict=True):
                    assert answer.count(b"HTTP/1.1 ") <= 1, (one, answer)
                    assert b"HTTP/1.1 5" not in answer, (one, answer)
                    assert b"Traceback" not in answer, (one, answer)
        await quiet(running)
        async with running.http.get(f"{running.url}/ready") as response:
            assert response.status == 200
    assert not [record for record in caplog.records if record.exc_info]


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.hostile
async def test_memory_stays_whatever_is_sent() -> None:
    async with gateway() as running:
        seen = []
        for number in range(WARM_UP + ROUNDS):
            for path, frame in (
                ("/v1/live", nonsense.live_frame), ("/v1/realtime", nonsense.realtime_frame)
            ):  # fmt: skip
                talks = (
                    talk(running, path, Random(9000 + 8 * number + n), frame) for n in range(8)
                )
                await asyncio.gather(*talks)
            random = Random(number)
            for path, body in nonsense.bodies(random).items():
                if path != "/v1/live/sessions":
                    await send(running.http, running.url + path, random, body)
            await quiet(running)
            gc.collect()
            seen.append(resident_bytes())
        print(json.dumps({"resident_mib": [round(size / 2**20, 1) for size in seen]}))
        assert max(seen[WARM_UP:]) <= 1.05 * seen[WARM_UP - 1], seen
