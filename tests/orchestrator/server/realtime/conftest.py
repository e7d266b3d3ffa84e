"""The unmodified ``openai`` client on ``/v1/realtime``; its own types check what it gets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, get_args

import openai
import pytest
from openai.types.realtime import RealtimeServerEvent
from openai.types.realtime.session_created_event import SessionCreatedEvent

KINDS: dict[str, Any] = {
    name: kind
    for kind in get_args(get_args(RealtimeServerEvent)[0])
    for name in get_args(kind.model_fields["type"].annotation)
}
"""The client's type of each event, by name."""


class Call:
    """A connection of the client and every event that came, each checked."""

    def __init__(self, connection: Any, *, extensions: bool) -> None:
        self.client = connection
        self.seen: list[Any] = []
        self._extensions = extensions

    async def next(self) -> Any:
        """Return the next event of the API, as the client's type has it."""
        while True:
            async with asyncio.timeout(10):
                fields = json.loads(await self.client.recv_bytes())
            assert fields["event_id"].startswith("event_")
            if fields["type"] in KINDS:
                event = KINDS[fields["type"]].model_validate(fields)
                self.seen.append(event)
                return event
            assert self._extensions, fields

    async def until(self, kind: str) -> Any:
        while (event := await self.next()).type != kind:
            pass
        return event

    async def say(self, text: str, **fields: Any) -> Any:
        """Create a user's item; return it."""
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content, **fields}
        await self.client.conversation.item.create(item=item)
        return (await self.until("conversation.item.done")).item

    async def answer(self, **response: Any) -> Any:
        """Ask for a response; return its ``response.done``."""
        await self.client.response.create(response=response)
        return (await self.until("response.done")).response

    async def error(self) -> Any:
        return (await self.until("error")).error

    def kinds(self) -> list[str]:
        return [event.type for event in self.seen]


@asynccontextmanager
async def calling(
    doors: Any, model: str = "auto", extensions: bool = False, **session: Any
) -> AsyncIterator[Call]:
    """Connect; ``session``: fields of a first ``session.update``."""
    url = f"{doors.url.replace('http', 'ws', 1)}/v1"
    async with (
        openai.AsyncOpenAI(
            base_url=f"{doors.url}/v1", websocket_base_url=url, api_key="none"
        ) as client,
        client.realtime.connect(model=model) as connection,
    ):
        call = Call(connection, extensions=extensions)
        assert isinstance(await call.next(), SessionCreatedEvent)
        if session:
            fields = {"type": "realtime", "output_modalities": ["text"], **session}
            await connection.session.update(session=fields)  # type: ignore[arg-type]
            await call.until("session.updated")
        yield call


@pytest.fixture
def dial() -> Any:
    """Return ``calling``."""
    return calling
