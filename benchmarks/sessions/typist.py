"""Somebody who types, commits, reads and types again, in one live session after the other.

The times are those of this process: right before a frame goes out, first thing when one comes in.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal

import aiohttp
from msgspec import json

from ..workload.typing_model import Cadence, Key, TypingModel

Frames = Literal["key", "word"]
TURN_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Habits:
    """How people type.

    Attributes:
        questions: one of them a turn, at random.
        cadence: of their keys.
        frames: what is sent at a time.
        turns: of a session at most; then another one is opened.
        pause_s: longest time between an answer and the next key.
        options: of ``session.update``.
    """

    questions: Sequence[str]
    cadence: Cadence = field(default_factory=TypingModel)
    frames: Frames = "key"
    turns: int = 4
    pause_s: float = 4.0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Seen:
    """What all typists together saw since ``clear``.

    Attributes:
        route_ms: from a key that ended a word to the route of a text with it.
        ttft_ms, drafted_ttft_ms: from a commit to the first text; the latter of adopted drafts.
        frames: that were sent.
        ended: turns by status; ``lost``: its connection broke, or nothing came.
        errors: messages of what went wrong.
    """

    route_ms: list[float] = field(default_factory=list)
    ttft_ms: list[float] = field(default_factory=list)
    drafted_ttft_ms: list[float] = field(default_factory=list)
    frames: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def clear(self) -> None:
        """Forget everything."""
        self.__init__()  # type: ignore[misc]


class Typist:
    """One person; ``run`` it as a task and cancel it.

    Args:
        http: makes the connections.
        url: of a gateway, ``http://HOST:PORT``.
        habits: of this person.
        seen: is filled.
        seed: of questions, keys and pauses.
    """

    def __init__(
        self, http: aiohttp.ClientSession, url: str, habits: Habits, seen: Seen, seed: object
    ) -> None:
        self._http = http
        self._url = f"{url}/v1/live".replace("http", "ws", 1)
        self._habits = habits
        self._seen = seen
        self._rng = random.Random(str(seed))
        self._open: aiohttp.ClientWebSocketResponse | None = None

    async def connect(self) -> None:
        """Open the first session; ``run`` types into it."""
        self._open = await self._connected()

    async def run(self, after_s: float = 0.0) -> None:
        """Type for ever; ``after_s``: not before."""
        await asyncio.sleep(after_s)
        while True:
            try:
                async with self._session() as session:
                    for _ in range(self._habits.turns):
                        await self._turn(session)
            except (aiohttp.ClientError, OSError, TimeoutError) as exc:
                self._seen.ended["lost"] += 1
                self._seen.errors[f"{type(exc).__name__}: {exc}"] += 1
                await asyncio.sleep(1.0)

    async def _connected(self) -> aiohttp.ClientWebSocketResponse:
        ws = await self._http.ws_connect(self._url, max_msg_size=0, compress=0)
        await ws.send_str(_text({"type": "session.update", **self._habits.options}))
        return ws

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[_Session]:
        ws, self._open = self._open or await self._connected(), None
        session = _Session(ws, self._seen)
        reading = asyncio.create_task(session.read())
        try:
            yield session
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await ws.close()

    async def _turn(self, session: _Session) -> None:
        habits, rng = self._habits, self._rng
        text = rng.choice(habits.questions)
        keys = habits.cadence.keys(text, rng)
        began_s = perf_counter()
        for key in joined(keys) if habits.frames == "word" else keys:
            await asyncio.sleep(max(0.0, began_s + key.at_s - perf_counter()))
            await session.type(key)
        await asyncio.sleep(habits.cadence.think_s(rng))
        async with asyncio.timeout(TURN_TIMEOUT_S):
            await session.commit(text)
        await asyncio.sleep(rng.uniform(0.0, habits.pause_s))


class _Session:
    """One connection, and where its turn is."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, seen: Seen) -> None:
        self._ws = ws
        self._seen = seen
        self._revision = 0
        self._words: deque[tuple[int, float]] = deque()
        self._committed_s: float | None = None
        self._drafted = False
        self._done: asyncio.Future[str] | None = None

    async def type(self, key: Key) -> None:
        self._revision += 1
        kind = "replace" if key.replaces else "append"
        frame = {"type": f"input_text.{kind}", "text": key.text, "revision": self._revision}
        if key.text.endswith(" "):
            self._words.append((self._revision, perf_counter()))
        self._seen.frames += 1
        await self._ws.send_str(_text(frame))

    async def commit(self, text: str) -> None:
        """Commit and wait for the end of the answer."""
        self._revision += 1
        self._done = asyncio.get_running_loop().create_future()
        frame = {"type": "input_text.commit", "text": text, "revision": self._revision}
        self._drafted, self._committed_s = False, perf_counter()
        self._words.clear()
        await self._ws.send_str(_text(frame))
        self._seen.ended[await self._done] += 1

    async def read(self) -> None:
        async for message in self._ws:
            self._saw(json.decode(message.data), perf_counter())
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionResetError("the gateway closed the connection"))

    def _saw(self, event: dict[str, Any], now_s: float) -> None:
        match event["type"]:
            case "route.updated":
                while self._words and self._words[0][0] <= event["revision"]:
                    self._seen.route_ms.append((now_s - self._words.popleft()[1]) * 1000)
            case "draft.adopted":
                self._drafted = True
            case "response.output_text.delta" if self._committed_s is not None:
                waits = self._seen.drafted_ttft_ms if self._drafted else self._seen.ttft_ms
                waits.append((now_s - self._committed_s) * 1000)
                self._committed_s = None
            case "response.done":
                if self._done is not None and not self._done.done():
                    self._done.set_result(event["status"])
            case "error":
                self._seen.errors[event["error"]["message"]] += 1


def joined(keys: Sequence[Key]) -> Iterator[Key]:
    """Yield whole words with their blank, each at the time of its last key."""
    text = ""
    for number, key in enumerate(keys):
        if key.replaces:
            text = ""
            yield key
            continue
        text += key.text
        last = number == len(keys) - 1 or keys[number + 1].replaces
        if last or key.text.endswith(" "):
            yield Key(key.at_s, text)
            text = ""


def _text(frame: dict[str, Any]) -> str:
    return json.encode(frame).decode()
