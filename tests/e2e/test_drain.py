"""`livemind serve` told to stop while it answers: a real process, a real signal."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web


class SlowServer:
    """An OpenAI-compatible server whose answers wait for ``release`` before the last token."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def chat(self, request: web.Request) -> web.StreamResponse:
        is_probe = (await request.json())["max_tokens"] == 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for text, reason in (("first ", None), ("second", "stop")):
            choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
            chunk = {"id": "x", "object": "chat.completion.chunk", "choices": [choice]}
            await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
            if reason is None and not is_probe:
                await self.release.wait()
        await response.write(b"data: [DONE]\n\n")
        return response

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "m", "max_model_len": 4096}]})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/v1/models", self.models)
        runner = web.AppRunner(app)
        await runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        try:
            await web.SockSite(runner, listener).start()
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            self.release.set()
            await runner.cleanup()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


async def until_ready(
    http: aiohttp.ClientSession, url: str, process: asyncio.subprocess.Process
) -> None:
    while True:
        assert process.returncode is None
        try:
            async with http.get(f"{url}/ready") as response:
                assert response.status == 200
                return
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(0.05)


async def until_refused(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            return
        writer.close()
        await asyncio.sleep(0.02)


@asynccontextmanager
async def livemind(config: Path, port: int, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    words = ["serve", "--config", str(config), "--port", str(port), "--log-format", "json"]
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "livemind.orchestrator.cli", *words, "--log-level", "info"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_serve_sigterm_finishes_the_answer_in_progress_and_exits_cleanly(
    tmp_path: Path,
) -> None:
    upstream, port = SlowServer(), free_port()
    config, log, url = tmp_path / "config.json", tmp_path / "log", f"http://127.0.0.1:{port}"
    async with upstream.running() as base_url, aiohttp.ClientSession() as http:
        expert = {"expert_id": "a", "kind": "remote", "base_urls": [base_url], "model": "m"}
        settings = {"server": {"drain_timeout_s": 60}, "experts": [expert]}
        config.write_text(json.dumps(settings))
        async with livemind(config, port, log) as process, asyncio.timeout(60):
            await until_ready(http, url, process)
            question = [{"role": "user", "content": "secret question"}]
            body = {"messages": question, "stream": True, "max_tokens": 8}
            async with http.post(f"{url}/v1/chat/completions", json=body) as response:
                answer = await response.content.readuntil(b"first ")
                process.send_signal(signal.SIGTERM)
                await until_refused(port)
                upstream.release.set()
                answer += await response.content.read()
            assert answer.endswith(b"data: [DONE]\n\n")
            assert b"second" in answer
            assert b'"finish_reason":"stop"' in answer  # although that server sends no usage
            assert await process.wait() == 0
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert any("/v1/chat/completions" in entry["message"] for entry in entries)
    assert "secret question" not in log.read_text()
