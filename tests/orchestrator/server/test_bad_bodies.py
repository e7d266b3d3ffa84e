"""Bodies that come slowly, broken or with very many fields, and what is logged of nonsense."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
import socket
import time
from typing import Any

import pytest

from livemind.orchestrator.server.app import create_app, run_server

CHAT = "/v1/chat/completions"


def large(body: Any) -> io.BytesIO:
    return io.BytesIO(json.dumps(body).encode())


def head(doors: Any, length: int, extra: str = "") -> bytes:
    host = doors.url.partition("//")[2]
    lines = f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{extra}"
    return f"{lines}Content-Length: {length}\r\n\r\n".encode()


async def opened(doors: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = doors.url.partition("//")[2].partition(":")
    return await asyncio.open_connection(host, int(port))


async def test_body_that_comes_too_slowly_is_cut_off(serve: Any) -> None:
    async with serve(body_timeout_s=0.2) as doors:
        connections = [await opened(doors) for _ in range(20)]
        for _, writer in connections:
            writer.write(head(doors, 500) + b'{"messages": [')
        for reader, writer in connections:
            async with asyncio.timeout(10):
                answer = await reader.read()
            assert b" 408 " in answer
            assert b"server.body_timeout_s" in answer
            writer.close()
        assert (await doors.chat())[0] == 200


async def test_shutdown_does_not_wait_for_a_body(serve: Any) -> None:
    began = time.monotonic()
    async with serve(drain_timeout_s=60) as doors:
        reader, writer = await opened(doors)
        writer.write(head(doors, 500) + b"{")
        await asyncio.sleep(0.2)
        ending = asyncio.create_task(doors.state.in_flight.drain(60, 5))
        async with asyncio.timeout(20):
            assert b" 503 " in await reader.readline()
            await ending
        writer.close()
    assert time.monotonic() - began < 40


@pytest.mark.parametrize(
    "body", [b"no gzip at all", gzip.compress(b'{"messages": []}')[:-12]], ids=["none", "cut"]
)
async def test_body_that_is_not_encoded_as_said_is_refused(serve: Any, body: bytes) -> None:
    async with serve() as doors:
        reader, writer = await opened(doors)
        writer.write(head(doors, len(body), "Content-Encoding: gzip\r\n") + body)
        async with asyncio.timeout(10):
            answer = await reader.readline()
        writer.close()
        assert b" 400 " in answer
        assert (await doors.chat())[0] == 200


async def test_body_in_an_unknown_encoding_gets_the_envelope(serve: Any) -> None:
    async with serve() as doors:
        reader, writer = await opened(doors)
        writer.write(head(doors, 4, "Content-Encoding: zstd\r\n") + b"\x28\xb5\x2f\xfd")
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        assert answer.split()[1] == b"415"
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert (error["code"], error["type"]) == (
            "unsupported_content_encoding",
            "invalid_request_error",
        )
        assert (await doors.chat())[0] == 200


async def test_body_with_very_many_unknown_fields_is_refused_at_once(serve: Any, body: Any) -> None:
    async with serve(max_body_bytes=4_000_000) as doors:
        fields = {f"unknown_{number}": 1 for number in range(85_000)}
        status, answer = await doors.ask("POST", CHAT, data=large({**body(), **fields}))
        assert status == 400
        assert answer["error"]["message"] == "85000 fields are unknown or wrong"
        nested = {"messages": [{"role": "user", "content": "x", **fields}]}
        assert (await doors.ask("POST", CHAT, data=large(nested)))[0] == 400


async def test_nonsense_is_logged_in_one_line(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with serve() as doors:
        caplog.set_level(logging.DEBUG)
        reader, writer = await opened(doors)
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n")
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.")
        assert b" 400 " in answer.splitlines()[0]
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"
        assert "Traceback" not in caplog.text


async def test_health_names_no_expert_without_a_key(serve: Any) -> None:
    numbers = {"models_loaded": 1, "models_available": 1}
    async with serve(api_keys=["right"]) as doors:
        for path in ("/health", "/ready"):
            _, shown = await doors.ask("GET", path)
            assert {**shown, **numbers} == shown
            assert "experts" not in shown
            _, shown = await doors.ask("GET", path, headers={"Authorization": "Bearer right"})
            assert shown["experts"] == {"fake": "ready"}
    async with serve() as doors:
        assert "experts" in (await doors.ask("GET", "/health"))[1]


async def test_access_log_keeps_no_query(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with serve() as doors:
        caplog.set_level(logging.INFO)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with run_server(create_app(doors.mind), listener, access_log=True):
                url = f"http://127.0.0.1:{listener.getsockname()[1]}/health?ticket=secret"
                async with doors.http.get(url) as response:
                    assert response.status == 200
        assert "/health" in caplog.text
        assert "secret" not in caplog.text
