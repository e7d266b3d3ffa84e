"""A server that leaves: /ready says so first, sessions are told to move, all else goes on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp

from .replica import Replica


async def test_leaving_server_is_not_ready_and_still_answers(serve: Any) -> None:
    async with serve() as doors:
        doors.state.in_flight.leave(5.0)
        status, answer = await doors.ask("GET", "/ready")
        assert (status, answer["status"]) == (503, "leaving")
        status, answer = await doors.ask("GET", "/ready?leaving=404")
        assert (status, answer["status"]) == (404, "leaving")
        status, answer = await doors.ask("GET", "/health")
        assert (status, answer["status"]) == (200, "leaving")
        assert (await doors.chat("hello"))[0] == 200
        place = f"{doors.url}/v1/live/sessions/mine/input"
        async with doors.http.put(place, json={"text": "a"}) as taken:
            assert taken.status == 201
            assert taken.headers["X-LiveMind-Session-Status"] == "moving"


async def test_ready_of_a_server_that_stays_is_200_however_it_is_asked(serve: Any) -> None:
    async with serve() as doors:
        for query in ("", "?leaving=404", "?leaving=200"):
            assert (await doors.ask("GET", f"/ready{query}"))[0] == 200


async def test_live_session_is_told_to_move_and_when(serve: Any) -> None:
    async with serve() as doors, doors.live() as early:
        doors.state.in_flight.leave(8.0)
        async with doors.live(configure=False) as late:
            for socket in (early, late):
                told = await socket.until("session.moving")
                assert told["closes_in_s"] == 8.0
                assert 0.0 <= told["retry_after_s"] <= 4.0
        await early.send(type="input_text.append", text="still here")
        await early.send(type="input_text.commit")
        assert (await early.until("response.done"))["status"] == "completed"


async def test_served_process_leaves_in_two_steps_at_sigterm(tmp_path: Path) -> None:
    async with Replica().serving() as replica, aiohttp.ClientSession() as http:
        config = tmp_path / "c.json"
        expert = {"expert_id": "far", "kind": "remote", "model": "m", "base_urls": [replica.url]}
        server = {"port": 0, "lame_duck_s": 5, "drain_timeout_s": 2}
        config.write_text(
            json.dumps({"server": server, "experts": [expert], "rag": {"enabled": False}})
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "livemind.orchestrator.cli", "serve", "--config", str(config)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        )
        try:
            url = await _url(process)
            assert (await _status(http, f"{url}/ready")) == 200
            process.send_signal(signal.SIGTERM)
            for _ in range(200):
                if (status := await _status(http, f"{url}/ready")) != 200:
                    break
            assert status == 503
            body = {"model": "far", "messages": [{"role": "user", "content": "hi"}]}
            async with http.post(f"{url}/v1/chat/completions", json=body) as answer:
                assert answer.status == 200
            assert await asyncio.wait_for(process.wait(), 60) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _url(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(100):
        while line := (await process.stdout.readline()).decode():
            said += line
            found = [word for word in line.split() if word.startswith("http://127.0.0.1:")]
            if found and found[0].rstrip("/").rpartition(":")[2].split("/")[0].isdigit():
                port = found[0].split(":")[2].split("/")[0]
                return f"http://127.0.0.1:{port}"
    raise AssertionError(said)


async def _status(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(url) as answer:
        return answer.status
