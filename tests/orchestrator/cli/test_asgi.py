"""``livemind.asgi``: a configuration's server behind an ASGI server."""

from __future__ import annotations

import json
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from livemind.asgi import create
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.errors import ConfigError

from ..server.asgi.served import run_uvicorn
from ..server.replica import Replica


async def test_created_from_a_file_answers_by_its_remote_expert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Replica().serving() as replica:
        expert = {
            "expert_id": "far",
            "kind": "remote",
            "model": "m",
            "base_urls": [replica.url],
        }
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"experts": [expert], "rag": {"enabled": False}}))
        monkeypatch.setenv("LIVEMIND_CONFIG", str(file))
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with run_uvicorn(create(), listener), aiohttp.ClientSession() as http:
            async with http.get(f"{url}/ready") as response:
                assert response.status == 200
            body = {"messages": [{"role": "user", "content": "what grows here"}]}
            async with http.post(f"{url}/v1/chat/completions", json=body) as response:
                told = await response.json()
            assert told["choices"][0]["message"]["content"] == replica.answer


async def test_expert_of_a_livemind_may_be_a_livemind() -> None:
    """As on Ray Serve: the inner one leaves a turn open, and refuses fields of vLLM by name."""
    async with Replica().serving() as replica, AsyncExitStack() as stack:
        url = replica.url
        for model in ("m", "far"):
            expert = {"expert_id": "far", "kind": "remote", "model": model, "base_urls": [url]}
            settings = Settings.model_validate({"experts": [expert], "rag": {"enabled": False}})
            listener = socket.create_server(("127.0.0.1", 0))
            await stack.enter_async_context(run_uvicorn(create(settings), listener))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with aiohttp.ClientSession() as http:
            body = {"messages": [{"role": "user", "content": "what grows here"}]}
            async with http.post(f"{url}/v1/chat/completions", json=body) as response:
                told = await response.json()
        assert told["choices"][0]["message"]["content"] == replica.answer


def test_created_from_a_wrong_file_names_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"server": {"prt": 1}}')
    with pytest.raises(ConfigError, match=r"server\.prt"):
        create(file)
