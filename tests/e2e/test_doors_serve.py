"""``livemind serve`` as a process: it starts, answers, and stops cleanly on a signal."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

# The process under test is the real command; only the engines are fakes.
LAUNCH = """
import functools, sys
from livemind.backends.fake import FakeExpert
from livemind.orchestrator import cli, live_mind
from livemind.rag.encoder.fake import FakeEmbedder
create = lambda spec: FakeExpert(spec.expert_id, start_s=float(spec.model_path), token_s=0.02)
live_mind.LiveMind = functools.partial(live_mind.LiveMind, create=create)
sys.exit(cli.main(sys.argv[1:]))
"""


@asynccontextmanager
async def command(folder: Path, *words: str, start_s: float = 0.0) -> AsyncIterator[Process]:
    """Run ``livemind serve`` with one expert that takes ``start_s`` to load."""
    config = folder / "config.json"
    config.write_text(json.dumps({"experts": [{"expert_id": "a", "model_path": str(start_s)}]}))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LAUNCH, "serve", "--config", str(config), "--port", "0", *words,
        stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ready_url(process: Process) -> tuple[str, str]:
    """Read until the server says that it is ready; return its URL and what it said."""
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(60):
        while (line := (await process.stdout.readline()).decode()) and "curl" not in line:
            said += line
    assert "is ready on http://" in said, said
    return said.partition("is ready on ")[2].split()[0], said + line


async def ended(process: Process) -> tuple[int | None, str, str]:
    async with asyncio.timeout(20):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_serve_prints_where_it_is_and_answers_there(tmp_path: Path) -> None:
    async with command(tmp_path) as process, aiohttp.ClientSession() as http:
        url, said = await ready_url(process)
        assert "a is ready (" in said
        assert f"curl {url}/v1/chat/completions" in said
        assert f"livemind chat --url {url.replace('http', 'ws')}/v1/live" in said
        body: Any = {"messages": [{"role": "user", "content": "hello"}]}
        async with http.post(f"{url}/v1/chat/completions", json=body) as response:
            answer = await response.json()
        assert answer["choices"][0]["message"]["content"] == "HELLO"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_serve_stops_cleanly_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    async with command(tmp_path) as process:
        await ready_url(process)
        process.send_signal(number)
        code, _, err = await ended(process)
        assert code == 0
        assert err == ""


async def test_serve_stops_while_experts_load(tmp_path: Path) -> None:
    async with command(tmp_path, start_s=3600) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"loading a\n"
        process.send_signal(signal.SIGINT)
        code, _, err = await ended(process)
        assert code == 0
        assert err == ""


async def test_serve_stops_with_a_client_in_mid_stream(tmp_path: Path) -> None:
    async with command(tmp_path) as process, aiohttp.ClientSession() as http:
        url, _ = await ready_url(process)
        body: Any = {"messages": [{"role": "user", "content": "w " * 5000}], "stream": True}
        async with http.post(f"{url}/v1/chat/completions", json=body) as response:
            await response.content.readany()
            process.send_signal(signal.SIGINT)
            rest = (await response.read()).decode()
        assert '"error"' in rest.rpartition("data: ")[2]
        code, _, err = await ended(process)
        assert code == 0
        assert "Traceback" not in err


async def test_serve_without_keys_on_all_addresses_warns(tmp_path: Path) -> None:
    async with command(tmp_path, "--host", "0.0.0.0") as process:
        _, said = await ready_url(process)
        assert "warning: 0.0.0.0" in said
        assert "api_keys" in said


async def test_serve_expert_that_cannot_load_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"experts": [{"expert_id": "a", "model_path": "broken"}]}))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LAUNCH, "serve", "--config", str(config), "--port", "0",
        stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    code, _, err = await ended(process)
    assert code == 1
    assert err.splitlines()[-1].startswith("livemind serve: ")
