"""A LiveMind server on a loopback socket that remembers what it was asked and what it answered."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from livemind.backends.base import Message
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.live_mind import LiveMind
from livemind.orchestrator.server.app import create_app, run_server
from livemind.rag.encoder.fake import FakeEmbedder


@dataclass
class Served:
    """The address, the expert, what it was asked, each request's (method, path, status)."""

    url: str
    expert: FakeExpert
    mind: LiveMind
    asked: list[tuple[tuple[str, str], ...]] = field(default_factory=list)
    requests: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def refused(self) -> list[tuple[str, str, int]]:
        """The requests that were answered with an error; 499 = the client went away."""
        return [request for request in self.requests if request[2] >= 400 and request[2] != 499]

    def count(self, method: str, end: str) -> int:
        """How many requests there were of a method to paths that end so."""
        return sum(m == method and path.endswith(end) for m, path, _ in self.requests)


def answer(messages: Sequence[Message]) -> str:
    """Answer in some thirty words that depend on the conversation."""
    words = messages[-1].content.split()
    turn = sum(message.role == "user" for message in messages)
    return (
        f"This is answer {turn} and you said {len(words)} words. The last was"
        f" {words[-1].strip('.?')}. There were {len(messages)} messages before it, so I go on for"
        " a while until somebody stops me, which happens in every third turn."
    )


@asynccontextmanager
async def served(expert: FakeExpert | None = None) -> AsyncIterator[Served]:
    """Serve one fake expert."""
    expert = expert or FakeExpert("fake", answer=answer)
    say = expert.answer
    settings = Settings.model_validate(
        {
            "experts": [{"expert_id": "fake", "model_path": "fake"}],
            "lazy_loading": {"enabled": False},
        }
    )
    mind = LiveMind(settings, create=lambda spec: expert, embedder=FakeEmbedder)
    listener = socket.create_server(("127.0.0.1", 0))
    found = Served(f"http://127.0.0.1:{listener.getsockname()[1]}", expert, mind)

    @web.middleware
    async def remember(request: web.Request, handler: object) -> web.StreamResponse:
        status = 499
        try:
            response: web.StreamResponse = await handler(request)  # type: ignore[operator]
            status = response.status
            return response
        finally:
            found.requests.append((request.method, request.path, status))

    def remembering(messages: Sequence[Message]) -> str:
        found.asked.append(tuple((message.role, message.content) for message in messages))
        return say(messages)

    expert.answer = remembering
    async with mind:
        app = create_app(mind)
        app.middlewares.insert(0, remember)
        async with run_server(app, listener):
            yield found
