"""The real server on a loopback socket, in front of a real LiveMind with fake experts."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from livemind.backends.fake import FakeExpert
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.live_mind import LiveMind
from livemind.orchestrator.server.app import create_app, run_server
from livemind.orchestrator.server.state import STATE, ServerState
from livemind.rag.base import Retriever
from livemind.rag.encoder.fake import FakeEmbedder

from .asgi.served import run_asgi

Json = dict[str, Any]


@dataclass
class Socket:
    """A live WebSocket and every event it has received."""

    ws: aiohttp.ClientWebSocketResponse
    seen: list[Json] = field(default_factory=list)

    async def send(self, **frame: Any) -> None:
        await self.ws.send_str(json.dumps(frame))

    async def next(self) -> Json:
        async with asyncio.timeout(10):
            message = await self.ws.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.ws.close_code)
        event: Json = json.loads(message.data)
        self.seen.append(event)
        return event

    async def until(self, kind: str) -> Json:
        while (event := await self.next())["type"] != kind:
            pass
        return event

    async def error(self) -> Json:
        event: Json = (await self.until("error"))["error"]
        return event

    async def closed(self) -> int | None:
        """Read on until the server closes; return the code."""
        async with asyncio.timeout(10):
            async for message in self.ws:
                self.seen.append(json.loads(message.data))
        return self.ws.close_code


@dataclass
class Doors:
    """A running server, its insides and a client."""

    url: str
    mind: LiveMind
    state: ServerState
    experts: dict[str, FakeExpert]
    http: aiohttp.ClientSession

    async def post(self, path: str, body: Any = None, **given: Any) -> tuple[int, Json]:
        return await self.ask("POST", path, json=body, **given)

    async def ask(self, method: str, path: str, **given: Any) -> tuple[int, Json]:
        async with self.http.request(method, self.url + path, **given) as response:
            return response.status, await response.json()

    async def chat(self, text: str = "hello there", **fields: Any) -> tuple[int, Json]:
        return await self.post("/v1/chat/completions", chat_body(text, **fields))

    @asynccontextmanager
    async def live(self, *, configure: bool = True, **fields: Any) -> AsyncIterator[Socket]:
        url = self.url.replace("http", "ws", 1) + "/v1/live"
        async with self.http.ws_connect(url, **fields) as ws:
            connection = Socket(ws)
            assert (await connection.next())["type"] == "session.created"
            if configure:
                await connection.send(type="session.update", speculation="off")
                assert (await connection.next())["type"] == "session.updated"
            yield connection

    async def quiet(self) -> None:
        """Wait until no request or session is open and no expert is at work."""
        await eventually(
            lambda: (
                not len(self.state.in_flight)
                and not len(self.state.registry)
                and not any(expert.running for expert in self.experts.values())
            )
        )


async def eventually(condition: Callable[[], object], limit_s: float = 10.0) -> None:
    """Wait until the condition holds; fail when it does not within the limit."""
    for _ in range(int(limit_s / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"not so after {limit_s} s")


ALWAYS: Json = {}
"""Fields of every chat request."""


def chat_body(text: str = "hello there", **fields: Any) -> Json:
    return {"messages": [{"role": "user", "content": text}], **ALWAYS, **fields}


@pytest.fixture(params=["plain", "session"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Ask once for what one expert answers alone, and once for what has a session."""
    if request.param == "session":
        monkeypatch.setitem(ALWAYS, "livemind", True)
    way: str = request.param
    return way


@asynccontextmanager
async def serving(
    *fakes: FakeExpert,
    lazy_loading: dict[str, Any] | None = None,
    fast: str | None = None,
    experts_given: dict[str, dict[str, Any]] | None = None,
    images: dict[str, Any] | None = None,
    retriever: Retriever | None = None,
    rag: dict[str, Any] | None = None,
    telemetry: dict[str, Any] | None = None,
    at_port: int = 0,
    asgi: bool = False,
    **server: Any,
) -> AsyncIterator[Doors]:
    """Serve these experts (one called ``fake`` if none is given) with these server settings.

    ``asgi``: through uvicorn; LIVEMIND_TEST_ASGI=1 in the environment: always.
    """
    experts = {fake.expert_id: fake for fake in fakes or (FakeExpert("fake"),)}
    settings = Settings.model_validate(
        {
            "server": server,
            "experts": [
                {"expert_id": name, "model_path": "fake", **(experts_given or {}).get(name, {})}
                for name in experts
            ],
            "images": images or {},
            "rag": rag or {},
            "telemetry": telemetry or {},
            "lazy_loading": lazy_loading or {"enabled": False},
            "router": {"fast_expert": fast},
        }
    )
    create: Callable[[Any], FakeExpert] = lambda spec: experts[spec.expert_id]  # noqa: E731
    listener = socket.create_server(("127.0.0.1", at_port))
    mind = LiveMind(settings, create=create, embedder=FakeEmbedder, retriever=retriever)
    async with mind:
        app = create_app(mind)
        run = run_asgi if asgi or "LIVEMIND_TEST_ASGI" in os.environ else run_server
        async with run(app, listener), aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            yield Doors(url, mind, app[STATE], experts, http)


@pytest.fixture
def serve() -> Any:
    """Return ``serving``."""
    return serving


@pytest.fixture(name="eventually")
def eventually_fixture() -> Any:
    """Return ``eventually``."""
    return eventually


@pytest.fixture
def body() -> Any:
    """Return ``chat_body``."""
    return chat_body
