"""A client of a server under test: one turn asked over HTTP, one over the live socket.

Every time is read from ``perf_counter`` in this process: last thing before a request or commit goes
out, first thing when a piece of answer comes in. ``self_check.py`` measures what is lost.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from time import perf_counter
from typing import Self

import aiohttp

from ..bench import BenchmarkFailed
from ..figures.answer import Answer, ArmFailure, Json, error_text, reported
from ..workload.typing_model import Key
from . import report, wire
from .http_stream import HttpFailure, HttpStream

CHAT = "/v1/chat/completions"


class Client:
    """Asks one server, inside ``async with``.

    Args:
        base_url: with or without ``/v1``.
        timeout_s: bounds the wait for an answer, from commit to its end.
        api_key: sent as the bearer token.
    """

    def __init__(self, base_url: str, timeout_s: float = 60.0, api_key: str | None = None) -> None:
        self._url = base_url.rstrip("/").removesuffix("/v1")
        self._timeout_s = timeout_s
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._stream = HttpStream(self._url)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers=self._headers)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close every connection."""
        self._stream.close()
        if self._session is not None:
            await self._session.close()

    @property
    def _http(self) -> aiohttp.ClientSession:
        assert self._session is not None, "use it in async with"
        return self._session

    async def models(self) -> list[Json]:
        """Return the entries of ``GET /v1/models``.

        Raises:
            BenchmarkFailed: there is no such server, or it does not answer this.
        """
        url = f"{self._url}/v1/models"
        try:
            async with self._http.get(url) as response:
                if response.status != 200:
                    message = error_text(await response.text())
                    raise BenchmarkFailed(f"{url}: HTTP {response.status}: {message}")
                return list((await response.json())["data"])
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as exc:
            raise BenchmarkFailed(f"{url}: {type(exc).__name__}: {exc}") from None

    async def dtypes(self) -> dict[str, str | None]:
        """Return what each expert of a LiveMind server computes in; nothing of another server."""
        try:
            async with self._http.get(f"{self._url}/stats") as response:
                return report.dtypes(await response.json())
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    async def chat(self, body: Mapping[str, object]) -> Answer:
        """Send a whole turn at once, as any OpenAI client does. Never raises but on cancel."""
        answer = Answer()
        async with reported(answer), asyncio.timeout(self._timeout_s):
            reader = _SseReader(answer)
            try:
                content = json.dumps(body).encode()
                await self._stream.post(CHAT, content, self._headers, reader.sent, reader.line)
            except HttpFailure as exc:
                message = f"HTTP {exc.status}: {error_text(exc.body)}"
                raise ArmFailure("failed", message) from None
        return answer

    @asynccontextmanager
    async def live(self, ask: wire.Ask) -> AsyncGenerator[LiveTalk, None]:
        """Open a live session; what fails later is written into the turn's answer.

        Raises:
            aiohttp.ClientError, OSError: the server cannot be reached or refuses the upgrade.
        """
        url = f"{self._url}/v1/live".replace("http", "ws", 1)
        async with self._http.ws_connect(url, max_msg_size=0) as ws:
            await ws.send_str(json.dumps(wire.session_update(ask)))
            yield LiveTalk(ws, self._timeout_s)


class LiveTalk:
    """One live session, turn after turn."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, timeout_s: float) -> None:
        self._ws = ws
        self._timeout_s = timeout_s
        self._revision = 0

    async def turn(self, text: str, keys: Sequence[Key], think_s: float) -> Answer:
        """Play the keys and commit ``think_s`` after the last. Never raises but on cancel.

        Without keys it is a paste: everything arrives with the commit.
        """
        answer = Answer()
        async with reported(answer), asyncio.TaskGroup() as group:
            reader = group.create_task(_read_live(self._ws, answer))
            began = perf_counter()
            await self._type(keys, began, answer)
            await _until(began + (keys[-1].at_s if keys else 0.0) + think_s, answer)
            frame = json.dumps(wire.commit(text, self._next()))
            answer.committed_s = perf_counter()
            await self._ws.send_str(frame)
            async with asyncio.timeout(self._timeout_s):
                await reader
        return answer

    async def type_only(self, keys: Sequence[Key], answer: Answer) -> None:
        """Play the keys without ever committing, until cancelled."""
        async with reported(answer), asyncio.TaskGroup() as group:
            group.create_task(_read_live(self._ws, answer))
            await self._type(keys, perf_counter(), answer)

    async def forget_documents(self) -> None:
        """Attach no documents to the turns that follow."""
        with suppress(aiohttp.ClientError, OSError):  # the next turn reports it
            await self._ws.send_str(json.dumps(wire.without_documents()))

    async def _type(self, keys: Sequence[Key], began: float, answer: Answer) -> None:
        for key in keys:
            await _until(began + key.at_s, answer)
            if key.replaces:
                frame, sent_s = wire.replace(key.text, self._next()), answer.replaced_s
            else:
                frame, sent_s = wire.append(key.text, self._next()), answer.keys_s
            sent_s.append(perf_counter())
            await self._ws.send_str(json.dumps(frame))

    def _next(self) -> int:
        self._revision += 1
        return self._revision


async def _until(due_s: float, answer: Answer) -> None:
    """Sleep until a moment; note by how much it was missed."""
    await asyncio.sleep(max(0.0, due_s - perf_counter()))
    answer.late_ms.append((perf_counter() - due_s) * 1000.0)


class _SseReader:
    """Writes a streamed chat completion into an answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def sent(self, at_s: float) -> None:
        """Begin."""
        self._answer.committed_s = at_s

    def line(self, at_s: float, content: bytes) -> None:
        """Take one line of the stream."""
        answer, data = self._answer, content[5:].strip()
        if not content.startswith(b"data:") or data == b"[DONE]":
            return
        chunk = json.loads(data)
        if "error" in chunk:
            raise ArmFailure("failed", error_text(data.decode()))
        for choice in chunk["choices"]:
            text = (choice.get("delta") or {}).get("content") or ""
            answer.take(at_s, text, wire.chat_tokens(choice.get("logprobs")))
            if choice.get("finish_reason"):
                answer.outcome, answer.ended_s = "completed", at_s
        answer.expert = chunk.get("model") or answer.expert
        answer.take_usage(chunk.get("usage"))


async def _read_live(ws: aiohttp.ClientWebSocketResponse, answer: Answer) -> None:
    """Read events until ``response.done``."""
    async for message in ws:
        at_s = perf_counter()
        if message.type is not aiohttp.WSMsgType.TEXT:
            break
        event = json.loads(message.data)
        match event["type"]:
            case "response.output_text.delta":
                answer.take(at_s, event["delta"])
            case "response.done":
                answer.ended_s = at_s
                _take_done(answer, event)
                return
            case "error":
                raise ArmFailure("failed", error_text(message.data))
            case "draft.adopted":
                answer.draft_adopted = event["tokens"] > 0
                answer.events.append((at_s, event))
            case _:
                answer.events.append((at_s, event))
    raise ArmFailure("incomplete", f"the socket closed without response.done ({ws.close_code})")


def _take_done(answer: Answer, event: Json) -> None:
    answer.timings, answer.ledger = event.get("timings"), event.get("ledger")
    answer.documents = event.get("documents")
    answer.expert = event.get("expert")
    answer.draft_adopted = bool(answer.draft_adopted)
    answer.take_usage(event.get("usage"))
    if event["status"] == "failed":
        raise ArmFailure("failed", error_text(json.dumps({"error": event.get("error")})))
    answer.outcome = "completed" if event["status"] == "completed" else "incomplete"
