"""Remote servers that misbehave: every turn ends once, in our words, with a line and a count."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from .misbehaving import BEHAVIOURS, EVERY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

NAMED = {400, 429, 502, 503, 504}
WARM_UP = 3


def body(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": f"please do {name}"}],
        "max_tokens": 8,
    } | fields


async def chat(gateway: Any, name: str, **fields: Any) -> tuple[int, str]:
    async with gateway.http.post(
        f"{gateway.url}/v1/chat/completions", json=body(name, **fields)
    ) as response:
        return response.status, await response.text()


def check_whole(name: str, status: int, text: str) -> None:
    answer = json.loads(text)
    if status == 200:
        assert answer["choices"][0]["finish_reason"], (name, answer)
        return
    assert status in NAMED, (name, status, text)
    check_error(name, answer["error"], text)


def check_stream(name: str, status: int, text: str) -> None:
    if status != 200:
        check_whole(name, status, text)
        return
    assert "HTTP/1." not in text, name
    blocks = [block for block in text.split("\n\n") if block.startswith("data: ")]
    parts = [block.removeprefix("data: ") for block in blocks]
    ends = [part for part in parts if part == "[DONE]" or "error" in json.loads(part)]
    assert len(ends) >= 1, (name, text[-500:])
    assert parts[-1] in ends[-1:], (name, text[-500:])
    for part in ends:
        if part != "[DONE]":
            check_error(name, json.loads(part)["error"], part)


def check_error(name: str, error: dict[str, Any], text: str) -> None:
    assert error["code"] not in (None, "", "internal_error"), (name, error)
    assert error["message"], (name, error)
    for secret in ("127.0.0.1", "passwd", "sk-secret", "nginx", "Traceback", "CUDA"):
        assert secret not in text, (name, error)


async def live(gateway: Any, name: str) -> dict[str, Any]:
    """Ask over the live protocol; return the one terminal event."""
    async with gateway.http.ws_connect(gateway.url.replace("http", "ws") + "/v1/live") as socket:
        for frame in (
            {"type": "session.update", "speculation": "prefill"},
            {"type": "input_text.append", "text": "please do ", "revision": 1},
            {"type": "input_text.append", "text": f"{name} ", "revision": 2},
            {"type": "input_text.commit", "text": f"please do {name}", "revision": 3},
        ):
            await socket.send_str(json.dumps(frame))
        ends: list[dict[str, Any]] = []

        async def read() -> None:
            async for message in socket:
                event = json.loads(message.data)
                assert event["type"] != "error", (name, event)
                if event["type"] == "response.done":
                    ends.append(event)

        reading = asyncio.create_task(read())
        async with asyncio.timeout(60):
            while not ends and not reading.done():  # noqa: ASYNC110 - nothing to subscribe to
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)  # a second end would come now
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert len(ends) == 1, (name, ends)
        return ends[0]


async def test_turns_at_servers_that_misbehave_end_once_and_are_explained(
    gateway: Any, rounds: int, caplog: pytest.LogCaptureFixture
) -> None:
    names = list(BEHAVIOURS if rounds == 1 else EVERY)
    caplog.set_level(logging.WARNING)
    async with gateway() as running:
        ended: Counter[str] = Counter()
        for _ in range(rounds):
            for name in names:
                check_whole(name, *await chat(running, name))
                check_stream(name, *await chat(running, name, stream=True))
                done = await live(running, name)
                ended[done["status"]] += 1
                if done["status"] == "failed":
                    check_error(name, done["error"], json.dumps(done["error"]))
        assert set(ended) <= {"completed", "failed"}
        assert ended["completed"] > 10 * rounds
        assert ended["failed"] > 20 * rounds
        failed = running.count("livemind_turns_total", status="failed")
        explained = [text for text in caplog.messages if re.match(r"turn \S+ failed: ", text)]
        assert len(explained) == failed == running.count("livemind_turn_failures_total")
        assert len(set(explained)) == len(explained)
        assert running.count("livemind_turn_failures_total", code="internal_error") == 0
        assert not any(record.exc_info for record in caplog.records)
        assert running.state.metrics.stats()["requests"] >= 2 * len(names) * rounds
        async with asyncio.timeout(10):  # the last web socket is being closed
            while len(running.state.in_flight):  # noqa: ASYNC110 - nothing to subscribe to
                await asyncio.sleep(0.01)
        assert (await chat(running, "well"))[0] == 200


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_memory_stays_when_servers_misbehave(gateway: Any, rounds: int) -> None:
    names = [name for name in BEHAVIOURS if name not in ("byte-by-byte",)]
    async with gateway() as running:
        seen = []
        for _ in range(WARM_UP + 2 + rounds):
            await asyncio.gather(*(chat(running, name, stream=True) for name in names))
            gc.collect()
            seen.append(resident_bytes())
        assert max(seen[WARM_UP:]) <= 1.05 * seen[WARM_UP - 1], seen
