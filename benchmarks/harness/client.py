"""A client of a server under test: one turn asked over HTTP, one over the live socket.

Every time is read from ``perf_counter`` in this process: last thing before a request or commit goes
out, first thing when a piece of answer comes in. ``self_check.py`` measures what is lost. Live
sessions are those of ``LiveClient``. A turn that comes whole is asked through ``http_stream.py`` on
every server, ours and others': the arms that are compared are timed by the same instrument.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from time import perf_counter
from typing import Self

import msgspec

from ...backends.remote.events import StreamEvent, chunk_of
from ...orchestrator.client.client import LiveClient
from ...orchestrator.client.events import LiveEvent, ServedModel, UnknownEvent
from ...orchestrator.client.session import RemoteSession
from ...orchestrator.errors import LiveMindError
from ...orchestrator.events import DraftAdopted, ResponseDone, ResponseTextDelta, to_wire
from ...orchestrator.server.live.answers import (
    ErrorFrame,
    SessionCreated,
    SessionMoving,
    SessionUpdated,
)
from ..bench import BenchmarkFailed
from ..figures.answer import Answer, ArmFailure, Json, error_text, reported
from ..workload.typing_model import Key
from . import report, wire
from .http_stream import HttpFailure, HttpStream

CHAT = "/v1/chat/completions"


class Client:
    """Asks one server, inside ``async with``; nothing is asked twice.

    Args:
        base_url: with or without ``/v1``.
        timeout_s: bounds the wait for an answer, from commit to its end.
        api_key: sent as the bearer token.
    """

    def __init__(self, base_url: str, timeout_s: float = 60.0, api_key: str | None = None) -> None:
        self._live = LiveClient(base_url, api_key=api_key, timeout_s=timeout_s, attempts=1)
        self._timeout_s = timeout_s
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._stream = HttpStream(base_url.rstrip("/").removesuffix("/v1"))

    async def __aenter__(self) -> Self:
        await self._live.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close every connection."""
        self._stream.close()
        await self._live.__aexit__(*exc)

    async def models(self) -> tuple[ServedModel, ...]:
        """Return the entries of ``GET /v1/models``.

        Raises:
            BenchmarkFailed: there is no such server, or it does not answer this.
        """
        try:
            return await self._live.models()
        except LiveMindError as exc:
            raise BenchmarkFailed(f"GET /v1/models: {exc.message}") from None

    async def dtypes(self) -> dict[str, str | None]:
        """Return what each expert of a LiveMind server computes in; nothing of another server."""
        try:
            return report.dtypes(await self._live.stats())
        except (LiveMindError, KeyError, TypeError):
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
            LiveMindError: the server cannot be reached or refuses the session.
        """
        talk = LiveTalk(self._timeout_s, has_documents=bool(ask.documents))
        async with self._live.session(observe=talk.observe, **ask.options()) as session:
            talk.session = session
            yield talk


class LiveTalk:
    """One live session, turn after turn; its documents are the first turn's."""

    session: RemoteSession

    def __init__(self, timeout_s: float, *, has_documents: bool) -> None:
        self._timeout_s = timeout_s
        self._has_documents = has_documents
        self._asked = False
        self._answer = Answer()  # of the turn that is asked

    async def turn(self, said: wire.Said) -> Answer:
        """Play the keys and commit ``think_s`` after the last. Never raises but on cancel.

        Without keys it is a paste: everything arrives with the commit.
        """
        if self._asked and self._has_documents:
            self._has_documents = False
            with suppress(LiveMindError):  # this turn reports it
                await self.session.update(documents=[])
        self._asked = True
        answer, keys = Answer(), said.keys
        self._answer = answer
        async with reported(answer):
            began = perf_counter()
            await self._type(keys, began, answer)
            await _until(began + (keys[-1].at_s if keys else 0.0) + said.think_s, answer)
            events = self.session.commit(said.text)
            try:
                async with asyncio.timeout(self._timeout_s):
                    async for _ in events:  # ``observe`` has taken it
                        pass
            finally:
                answer.committed_s = events.committed_s
        return answer

    async def type_only(self, keys: Sequence[Key], answer: Answer) -> None:
        """Play the keys without ever committing, until cancelled."""
        self._answer = answer
        async with reported(answer):
            await self._type(keys, perf_counter(), answer)
            raise await self.session.wait_closed()

    def observe(self, event: LiveEvent, at_s: float) -> None:
        """Write an event into the answer."""
        answer = self._answer
        match event:
            case ResponseTextDelta():
                answer.take(at_s, event.delta)
            case ResponseDone():
                answer.ended_s = at_s
                _take_done(answer, event)
            case ErrorFrame():
                answer.outcome, answer.error = "failed", event.error.message
            case SessionCreated() | SessionUpdated() | SessionMoving():
                pass
            case UnknownEvent():
                answer.events.append((at_s, event.content))
            case _:
                if isinstance(event, DraftAdopted):
                    answer.draft_adopted = event.tokens > 0
                answer.events.append((at_s, to_wire(event)))

    async def _type(self, keys: Sequence[Key], began: float, answer: Answer) -> None:
        for key in keys:
            await _until(began + key.at_s, answer)
            (answer.replaced_s if key.replaces else answer.keys_s).append(perf_counter())
            if key.replaces:
                self.session.replace(key.text)
            else:
                self.session.append(key.text)


async def _until(due_s: float, answer: Answer) -> None:
    """Sleep until a moment; note by how much it was missed."""
    await asyncio.sleep(max(0.0, due_s - perf_counter()))
    answer.late_ms.append((perf_counter() - due_s) * 1000.0)


class _Event(StreamEvent):
    """One event of a streamed chat completion; ``livemind`` is what LiveMind adds to it."""

    model: str | None = None
    livemind: Json | None = None


_EVENT = msgspec.json.Decoder(_Event)


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
        event = _EVENT.decode(data)
        if event.error is not None:
            raise ArmFailure("failed", error_text(data.decode()))
        if (chunk := chunk_of(event)) is not None:
            answer.take_chunk(at_s, chunk)
        answer.expert = event.model or answer.expert
        answer.documents = (event.livemind or {}).get("documents", answer.documents)
        answer.take_usage(event.usage)


def _take_done(answer: Answer, done: ResponseDone) -> None:
    told: Json = to_wire(done)
    answer.timings, answer.ledger = told["timings"], told["ledger"]
    answer.documents = told["documents"]
    answer.expert = done.expert
    answer.draft_adopted = bool(answer.draft_adopted)
    answer.take_usage(told["usage"])
    if done.status == "failed":
        message = done.error.message if done.error is not None else done.status
        answer.outcome, answer.error = "failed", message
    elif answer.error is None:
        answer.outcome = "completed" if done.status == "completed" else "incomplete"
