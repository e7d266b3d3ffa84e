"""The load generator of the gateway benchmark, with keep-alive connections.

Closed loop: every user asks again as soon as it is answered. Open loop: requests leave at random
times (Poisson) whatever the answers do; a closed loop against a constant latency would fall into
step and measure its own convoys.

    python -m livemind.benchmarks.gateway.load '{"url": "http://127.0.0.1:8000", …}'

Prints one JSON object. Written on bare sockets: an HTTP library in this place would be as slow as
what is measured. Requests are ready before they are timed; of an answer it reads the status, the
first text and the end. The first-text test looks for a ``content`` that is not empty, so it does
not mistake an opening chunk without text for an answer.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import re
import sys
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any, cast
from urllib.parse import urlsplit

from ...orchestrator.cli import event_loop

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
FINISH_S = 10.0
"""For answers in flight when the counted time is over."""
UNFINISHED = "unfinished"
NOT_SENT = "too many answers are missing"
MOST_OPEN = 4
_TEXT = re.compile(rb'"content":\s*"[^"]')
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """What to send.

    Attributes:
        users: of the closed loop; in the open loop, connections beyond ``MOST_OPEN`` times as many
            are not opened and the request counts as an error.
        rate_per_s: of the open loop; 0 = closed loop.
        warm_up_s: passes before answers count; users of the closed loop begin spread over it.
    """

    url: str
    model: str
    users: int
    rate_per_s: float
    seconds: float
    warm_up_s: float
    stream: bool
    seed: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class LoadResult:
    """What came back; failures by message.

    Attributes:
        seconds: the counted time.
        ended: answers that ended in it; rates use these alone.
        ttft_ms, total_ms: of the answers that were asked for in it, whenever they ended.
        missing: answers that were due in it and never came: slower than all that did.
        errors: the warm-up's among them.
    """

    seconds: float
    ended: int = 0
    ttft_ms: list[float] = field(default_factory=list)
    total_ms: list[float] = field(default_factory=list)
    missing: int = 0
    errors: dict[str, int] = field(default_factory=dict)


class Connection(asyncio.Protocol):
    """One connection; ``ask`` sends a request and returns when the answer is whole."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer = bytearray()
        self._done: asyncio.Future[bytes] | None = None
        self.first_text_s: float | None = None
        self.ended_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError("the connection was closed"))

    async def ask(self, request: bytes) -> bytes:
        """Return the raw answer.

        Raises:
            ConnectionError: the connection is or gets closed.
        """
        if self._transport is None:
            raise ConnectionError("the connection was closed")
        self._answer.clear()
        self.first_text_s = None
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._done

    def data_received(self, data: bytes) -> None:
        """Note the first text and the end of the answer."""
        now_s = perf_counter()
        answer = self._answer
        answer += data
        if self.first_text_s is None and _TEXT.search(answer):
            self.first_text_s = now_s
        if self._done is None or self._done.done() or not _whole(answer):
            return
        self.ended_s = now_s
        self._done.set_result(bytes(answer))

    def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._transport is not None:
            self._transport.close()


def _whole(answer: bytearray) -> bool:
    """Whether a response that is read alone on its connection has ended."""
    if answer.endswith(_LAST_CHUNK):
        return True
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    length = _LENGTH.search(answer, 0, head + 2)
    return length is not None and len(answer) - head - 4 >= int(length[1])


def request_bytes(spec: LoadSpec) -> bytes:
    """Return the request that every user sends."""
    parts = urlsplit(spec.url)
    body: dict[str, Any] = {
        "model": spec.model,
        "messages": [{"role": "user", "content": "What is the boiling point of water at 2 km?"}],
        "max_tokens": 64,
        "temperature": 0.0,
    }
    if spec.stream:
        body["stream"] = True
    content = json.dumps(body).encode()
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        **spec.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + content


def fault_of(answer: bytes, *, stream: bool) -> str | None:
    """Return what is wrong with a raw answer, None if nothing is."""
    status = answer[9:12].decode("ascii", "replace")
    if status != "200":
        return f"HTTP {status}"
    if b'"error"' in answer:
        return "an error event"
    if stream and b"data: [DONE]" not in answer:
        return "no [DONE]"
    if not re.search(rb'"finish_reason":\s*"', answer):
        return "no finish_reason"
    return None


class Generator:
    """Sends what a spec says; ``result`` grows while it does."""

    def __init__(self, spec: LoadSpec) -> None:
        self._spec = spec
        self._request = request_bytes(spec)
        self._rng = random.Random(spec.seed)
        self._idle: list[Connection] = []
        self._counted_from_s = perf_counter() + spec.warm_up_s
        self._until_s = self._counted_from_s + spec.seconds
        self.result = LoadResult(spec.seconds)

    async def run(self) -> None:
        """Send until the time is over; answers in flight then have ``FINISH_S`` to end."""
        try:
            async with asyncio.TaskGroup() as group:
                if self._spec.rate_per_s:
                    group.create_task(self._arrivals(group))
                    return
                for _ in range(self._spec.users):
                    group.create_task(self._user())
        finally:
            for connection in self._idle:
                connection.close()

    async def _user(self) -> None:
        await asyncio.sleep(self._rng.uniform(0.0, self._spec.warm_up_s / 2))
        while perf_counter() < self._until_s:
            if not await self._ask():
                await asyncio.sleep(0.01)

    async def _arrivals(self, group: asyncio.TaskGroup) -> None:
        due_s, running = perf_counter(), set[asyncio.Task[bool]]()
        while (due_s := due_s + self._rng.expovariate(self._spec.rate_per_s)) < self._until_s:
            await asyncio.sleep(due_s - perf_counter())
            if len(running) >= MOST_OPEN * self._spec.users:
                self._missed(NOT_SENT, due_s)
                continue
            task = group.create_task(self._ask())
            running.add(task)
            task.add_done_callback(running.discard)

    async def _ask(self) -> bool:
        """Send one request on a connection of its own; whether a whole answer came."""
        connection: Connection | None = None
        limit: asyncio.Timeout | None = None
        asked_s = perf_counter()
        try:
            connection = self._idle.pop() if self._idle else await self._connect()
            left_s = self._until_s + FINISH_S - asked_s
            async with asyncio.timeout(min(ANSWER_TIMEOUT_S, left_s)) as limit:
                answer = await connection.ask(self._request)
        except (OSError, TimeoutError) as exc:
            if connection is not None:
                connection.close()
            if limit is not None and limit.expired():
                return self._missed(UNFINISHED, asked_s)
            return self._failed(f"{type(exc).__name__}: {exc}")
        self._idle.append(connection)
        fault = fault_of(answer, stream=self._spec.stream)
        if fault is not None or connection.first_text_s is None:
            return self._failed(fault or "no text")
        if self._counts(connection.ended_s):
            self.result.ended += 1
        if self._counts(asked_s):
            self.result.ttft_ms.append((connection.first_text_s - asked_s) * 1000.0)
            self.result.total_ms.append((connection.ended_s - asked_s) * 1000.0)
        return True

    def _counts(self, moment_s: float) -> bool:
        return self._counted_from_s <= moment_s < self._until_s

    async def _connect(self) -> Connection:
        parts = urlsplit(self._spec.url)
        assert parts.hostname is not None
        assert parts.port is not None
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await loop.create_connection(Connection, parts.hostname, parts.port)
        return connection

    def _missed(self, fault: str, due_s: float) -> bool:
        self.result.missing += self._counts(due_s)
        return self._failed(fault)

    def _failed(self, fault: str) -> bool:
        self.result.errors[fault] = self.result.errors.get(fault, 0) + 1
        return False


async def generate(spec: LoadSpec) -> LoadResult:
    """Send what the spec says and return what came back."""
    generator = Generator(spec)
    await generator.run()
    return generator.result


def main() -> None:
    """Generate load as the one argument says and print the result."""
    spec = LoadSpec(**json.loads(sys.argv[1]))
    gc.freeze()
    gc.disable()
    json.dump(asdict(event_loop.run(generate(spec))), sys.stdout)


if __name__ == "__main__":
    main()
