"""A gateway with real doors and a real remote expert, in front of a server that misbehaves.

``LIVEMIND_HOSTILE`` says how often everything is done: 1 within `make test`, more in
`make test-hostile`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.live_mind import LiveMind
from livemind.orchestrator.server.app import create_app, run_server
from livemind.orchestrator.server.state import STATE, ServerState

from .misbehaving import misbehaving_server

ROUNDS = int(os.environ.get("LIVEMIND_HOSTILE", "1"))


@dataclass
class Gateway:
    """A running gateway and a client of it."""

    url: str
    state: ServerState
    http: aiohttp.ClientSession

    def count(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels."""
        families = text_string_to_metric_families(self.state.metrics.render().decode())
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@asynccontextmanager
async def serving(**server: Any) -> AsyncIterator[Gateway]:
    """Serve one remote expert, whose server does as the last message says."""
    async with misbehaving_server() as remote:
        expert = {
            "expert_id": "remote",
            "kind": "remote",
            "base_urls": [remote],
            "model": "m",
            "timeout_s": 1,
        }
        settings = Settings.model_validate(
            {"experts": [expert], "server": server, "lazy_loading": {"enabled": False}}
        )
        listener = socket.create_server(("127.0.0.1", 0))
        async with LiveMind(settings) as mind:
            app = create_app(mind)
            async with run_server(app, listener), aiohttp.ClientSession() as http:
                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                yield Gateway(url, app[STATE], http)


@pytest.fixture
def gateway() -> Any:
    """Return ``serving``."""
    return serving


@pytest.fixture
def rounds() -> int:
    """Return how often everything is done."""
    return ROUNDS
