"""The client side of the live protocol, as far as ``livemind chat`` needs it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import aiohttp

from ..errors import CommandError

CONNECT_TIMEOUT_S = 10.0
Json = dict[str, Any]


class Disconnected(CommandError):
    """The server closed the connection or cannot be reached."""


class LiveClient:
    """One live session. Frames leave in the order of the calls; events go to ``on_event``."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.on_event: Callable[[Json], None] = lambda event: None
        self.on_closed: Callable[[Disconnected], None] = lambda exc: None
        self.done: Json | None = None
        self.ttft_ms: float | None = None
        self._ws = ws
        self._frames: asyncio.Queue[Json] = asyncio.Queue()
        self._turn: asyncio.Queue[Json | Disconnected] = asyncio.Queue()
        self._commits = 0
        self._committed_s = 0.0
        self._last_error: str | None = None

    def send(self, frame: Json) -> None:
        """Queue one frame."""
        self._frames.put_nowait(frame)

    def commit(self, text: str) -> None:
        """Send the final text; ``answer`` yields what comes of it."""
        self._commits += 1
        self._committed_s = perf_counter()
        self.done, self.ttft_ms = None, None
        self.send({"type": "input_text.commit", "text": text, "event_id": self._event_id})

    async def answer(self) -> AsyncGenerator[str, None]:
        """Yield the text of the committed turn as it comes; afterwards ``done`` is set.

        Raises:
            CommandError: the server refused the turn, or it failed.
            Disconnected: the connection is gone.
        """
        while self.done is None:
            event = await self._turn.get()
            if isinstance(event, Disconnected):
                raise event
            match event["type"]:
                case "response.output_text.delta":
                    if self.ttft_ms is None:
                        self.ttft_ms = (event["received_s"] - self._committed_s) * 1000
                    yield event["delta"]
                case "response.done":
                    self.done = event
                    if event["status"] != "completed":
                        error: Json = event["error"] or {"message": event["status"]}
                        raise CommandError(str(error["message"]))
                case "error" if event["error"]["event_id"] == self._event_id:
                    raise CommandError(event["error"]["message"])

    async def configure(self, **fields: object) -> None:
        """Send ``session.update`` and wait until it is in force.

        Raises:
            CommandError: the server refused it.
        """
        self.send({"type": "session.update", **fields})
        while True:
            event = await self._turn.get()
            if isinstance(event, Disconnected):
                raise event
            if event["type"] == "session.updated":
                return
            if event["type"] == "error":
                raise CommandError(event["error"]["message"])

    async def write(self) -> None:
        """Send queued frames until cancelled."""
        while True:
            frame = await self._frames.get()
            try:
                await self._ws.send_str(json.dumps(frame))
            except ConnectionError:
                return

    async def read(self) -> None:
        """Hand on events until the server closes."""
        async for message in self._ws:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            event = json.loads(message.data)
            event["received_s"] = perf_counter()
            if event["type"] == "error":
                self._last_error = event["error"]["message"]
            self.on_event(event)
            self._turn.put_nowait(event)
        reason = self._last_error or f"code {self._ws.close_code}"
        exc = Disconnected(f"the server closed the connection: {reason}")
        self._turn.put_nowait(exc)
        self.on_closed(exc)

    @property
    def _event_id(self) -> str:
        return f"commit-{self._commits}"


@asynccontextmanager
async def connect(url: str, key: str | None) -> AsyncIterator[LiveClient]:
    """Open a live session for this block.

    Raises:
        Disconnected: nothing answers there, or it refuses.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(headers=headers) as http:
        ws = await _open(http, url)
        client = LiveClient(ws)
        tasks = [asyncio.create_task(client.read()), asyncio.create_task(client.write())]
        try:
            yield client
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await ws.close()


async def _open(http: aiohttp.ClientSession, url: str) -> aiohttp.ClientWebSocketResponse:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await http.ws_connect(url, heartbeat=20, max_msg_size=0)
    except aiohttp.WSServerHandshakeError as exc:
        hints = {
            401: "the server needs an API key: give --key or set LIVEMIND_API_KEY",
            404: "there is no live endpoint at this URL; it usually ends in /v1/live",
            429: "the server is full; try again later",
        }
        message = hints.get(exc.status, f"HTTP {exc.status}")
        raise Disconnected(f"{url}: {message}") from None
    except aiohttp.InvalidURL:
        raise CommandError(f"--url: {url} is not a URL such as ws://HOST:PORT/v1/live", 2) from None
    except (aiohttp.ClientError, OSError):
        raise Disconnected(f"nothing answers at {url}; is `livemind serve` running?") from None
