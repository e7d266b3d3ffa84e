"""A connection that can be cut, between the live client and a server; what tests do with both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from livemind import (
    RemoteSession,
    ResponseDone,
    ResponseTextDelta,
)


@dataclass
class Relay:
    """Carries bytes to a server; ``cut`` breaks every connection that it has."""

    url: str = ""
    connections: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()


@asynccontextmanager
async def relayed(doors: Any) -> AsyncIterator[Relay]:
    relay, port = Relay(), int(doors.url.rpartition(":")[2])
    tasks = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except ConnectionError:
            pass
        writer.close()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", port)
        relay.writers += [writer, back]
        for pair in ((reader, back), (there, writer)):
            task = asyncio.create_task(pipe(*pair))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        relay.cut()
        await asyncio.gather(*tasks)


async def read(session: RemoteSession, text: str | None = None) -> tuple[str, ResponseDone]:
    said = ""
    async for event in session.commit(text):
        if isinstance(event, ResponseTextDelta):
            said += event.delta
        if isinstance(event, ResponseDone):
            return said, event
    raise AssertionError("no end")


async def typed(doors: Any, eventually: Any, text: str) -> None:
    """Wait until the server's one session has this input."""

    def has() -> bool:
        found = [live.session.text for live in doors.state.registry._by_id.values()]
        return found == [text]

    await eventually(has)
