"""Random conversations as client libraries write them: none is refused."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from livemind.backends.fake import FakeExpert
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.live_mind import LiveMind
from livemind.orchestrator.server.app import create_app, run_server

from . import run

pytestmark = pytest.mark.slow
COUNT = 200


async def test_conversations_of_three_libraries_are_all_answered() -> None:
    python = run.ROOT / ".venv" / run.QUICK / "bin/python"
    if not python.exists():
        pytest.skip("the clients are not installed: `make test` does it")
    expert = {"expert_id": "fake", "model_path": "fake"}
    settings = Settings.model_validate({"experts": [expert], "rag": {"enabled": False}})
    listener = socket.create_server(("127.0.0.1", 0))
    mind = LiveMind(settings, create=lambda spec: FakeExpert("fake", max_model_len=100_000))
    async with mind, run_server(create_app(mind), listener):
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        program = run.HERE / "programs/random_conversations.py"
        process = await asyncio.create_subprocess_exec(
            *(str(python), str(program), url, "fake", str(COUNT)), stdout=asyncio.subprocess.PIPE
        )
        told, _ = await process.communicate()
    result = json.loads(told.splitlines()[-1])
    assert result["refused"] == []
    assert sum(result["sent"].values()) == COUNT
