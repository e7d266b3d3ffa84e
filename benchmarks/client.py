"""A client of a server under test: one turn asked over HTTP, one over the live socket.

Every time is read from ``perf_counter`` in this process: from sending the request or the commit to
the first non-empty piece of answer. All arms use one HTTP library, so its cost is the same in each.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import aiohttp

from . import wire
from .answer import Answer, ArmFailure, error_text, reported
from .typing_model import Key


class Client:
    """Asks one server; ``timeout_s`` bounds the wait for an answer, from commit to its end."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, timeout_s: float = 60.0) -> None:
        self._http = http
        self._url = base_url.rstrip("/")
        self._timeout_s = timeout_s

    async def models(self) -> list[str]:
        """Return the ids of ``GET /v1/models``."""
        async with self._http.get(f"{self._url}/v1/models") as response:
            response.raise_for_status()
            return [str(model["id"]) for model in (await response.json())["data"]]

    async def request_at_end(self, ask: wire.Ask) -> Answer:
        """Send the whole turn at once, as any OpenAI client does. Never raises but on cancel."""
        answer = Answer()
        async with reported(answer), asyncio.timeout(self._timeout_s):
            body = json.dumps(wire.chat_body(ask)).encode()
            headers = {"Content-Type": "application/json"}
            started = perf_counter()
            async with self._http.post(
                f"{self._url}/v1/chat/completions", data=body, headers=headers
            ) as response:
                if response.status != 200:
                    message = error_text(await response.text())
                    raise ArmFailure("failed", f"HTTP {response.status}: {message}")
                await _read_sse(response, answer, started)
            answer.total_ms = (perf_counter() - started) * 1000
        return answer

    async def live(self, ask: wire.Ask, keys: Sequence[Key], enter_after_s: float) -> Answer:
        """Type the turn on a live session and commit ``enter_after_s`` after the last key.

        Without keys it is a paste: everything arrives with the commit. Never raises but on cancel.
        """
        answer = Answer()
        async with reported(answer), self._socket() as ws, asyncio.TaskGroup() as group:
            reader = group.create_task(_read_live(ws, answer))
            await ws.send_str(json.dumps(wire.session_update(ask)))
            await type_keys(ws, keys, answer.key_late_ms)
            await asyncio.sleep(enter_after_s)
            frame = json.dumps(wire.commit(ask.turn.question, len(keys) + 1))
            committed = perf_counter()
            await ws.send_str(frame)
            async with asyncio.timeout(self._timeout_s):
                ended = await reader
            answer.arrivals_ms = [(at - committed) * 1000 for at in answer.arrivals_ms]
            if answer.ttft_ms is not None:
                answer.ttft_ms = (answer.ttft_ms - committed) * 1000
            answer.total_ms = (ended - committed) * 1000
        return answer

    async def type_only(self, ask: wire.Ask, keys: Sequence[Key], answer: Answer) -> None:
        """Type without ever committing, until cancelled; what happened goes into ``answer``."""
        async with reported(answer), self._socket() as ws, asyncio.TaskGroup() as group:
            group.create_task(_read_live(ws, answer))
            await ws.send_str(json.dumps(wire.session_update(ask)))
            await type_keys(ws, keys, answer.key_late_ms)

    @asynccontextmanager
    async def _socket(self) -> AsyncGenerator[aiohttp.ClientWebSocketResponse, None]:
        url = f"{self._url}/v1/live".replace("http", "ws", 1)
        async with self._http.ws_connect(url, max_msg_size=0) as ws:
            yield ws


async def type_keys(
    ws: aiohttp.ClientWebSocketResponse, keys: Sequence[Key], late_ms: list[float]
) -> None:
    """Send each key at its time; ``late_ms`` collects by how much each one missed it."""
    started = perf_counter()
    for revision, key in enumerate(keys, start=1):
        await asyncio.sleep(max(0.0, started + key.at_s - perf_counter()))
        late_ms.append((perf_counter() - started - key.at_s) * 1000)
        await ws.send_str(json.dumps(wire.append(key.text, revision)))


async def _read_sse(response: aiohttp.ClientResponse, answer: Answer, started: float) -> None:
    async for line in response.content:
        at_ms = (perf_counter() - started) * 1000
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        chunk = json.loads(data)
        if "error" in chunk:
            raise ArmFailure("failed", error_text(data.decode()))
        for choice in chunk["choices"]:
            text = choice["delta"].get("content") or ""
            answer.take(at_ms, text, wire.chat_tokens(choice.get("logprobs")))
            if choice.get("finish_reason"):
                answer.outcome = "completed"
        answer.take_usage(chunk.get("usage"))


async def _read_live(ws: aiohttp.ClientWebSocketResponse, answer: Answer) -> float:
    """Read events until ``response.done``; return its time. Arrivals stay absolute, in seconds."""
    async for message in ws:
        at = perf_counter()
        if message.type is not aiohttp.WSMsgType.TEXT:
            break
        event = json.loads(message.data)
        match event["type"]:
            case "response.output_text.delta":
                answer.take(at, event["delta"])
            case "prefill.updated":
                answer.prefilled_tokens = event["tokens_ready"]
            case "draft.adopted":
                answer.draft_adopted = event["tokens"] > 0
            case "error":
                raise ArmFailure("failed", error_text(message.data))
            case "response.done":
                _take_done(answer, event)
                return at
    raise ArmFailure("incomplete", f"the socket closed without response.done ({ws.close_code})")


def _take_done(answer: Answer, event: dict[str, Any]) -> None:
    answer.timings, answer.ledger = event.get("timings"), event.get("ledger")
    answer.server_ttft_ms = (answer.timings or {}).get("ttft_ms")
    answer.draft_adopted = bool(answer.draft_adopted)
    answer.take_usage(event.get("usage"))
    if event["status"] == "failed":
        raise ArmFailure("failed", error_text(json.dumps({"error": event.get("error")})))
    answer.outcome = "completed" if event["status"] == "completed" else "incomplete"
