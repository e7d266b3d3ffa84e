"""``LiveClient``: LiveMind's own API, over a WebSocket and over plain HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Self, TypeVar, Unpack
from urllib.parse import quote

import aiohttp
import msgspec

from ...backends.base import Chunk
from ...backends.remote.events import StreamEvent, chunk_of
from ..errors import ErrorBody, InvalidRequest, Unavailable
from ..server.live.answers import SessionDeleted, SessionStatus
from .endpoint import LOST, Endpoint, header
from .events import CompletionChunk, LiveEvent, ServedModel, decode, exception
from .options import LiveOptions
from .retry import repeated, was_not_taken
from .session import RemoteSession

T = TypeVar("T")
SESSIONS = "/v1/live/sessions"


class LiveClient:
    """A client of one LiveMind server, inside ``async with``. For one event loop.

    What the server has not taken is sent again, up to ``attempts`` times in all: it cannot be
    reached, is full (429) or ends (503). The wait is its Retry-After plus a random time that grows
    from a quarter of a second to eight. A question that may have been taken is never asked twice.

        async with LiveClient("http://127.0.0.1:8000") as client, client.session() as session:
            session.append("What is ")
            async for event in session.commit("What is a context manager?"):
                print(event)

    Args:
        url: ``http://HOST:PORT``, with or without ``/v1``, or ``ws://HOST:PORT/v1/live``.
        api_key: of the server's ``server.api_keys``; None = it has none.
        timeout_s: longest silence of the server while it owes an answer, seconds, > 0.
        attempts: >= 1; 1 = nothing is sent again.

    Raises:
        InvalidRequest: an argument is out of its range.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout_s: float = 300.0,
        attempts: int = 4,
    ) -> None:
        for name, value in (("timeout_s", timeout_s), ("attempts", attempts)):
            if not value >= (1 if name == "attempts" else 1e-3):
                raise InvalidRequest(f"{name}: got {value!r}, need more than 0", param=name)
        self._endpoint = Endpoint(url, api_key, timeout_s)
        self._timeout_s = timeout_s
        self._attempts = attempts

    async def __aenter__(self) -> Self:
        """Get ready; nothing is sent before the first call."""
        await self._endpoint.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close every connection."""
        await self._endpoint.close()

    # ---- over a WebSocket

    def session(
        self,
        *,
        observe: Callable[[LiveEvent, float], None] | None = None,
        **options: Unpack[LiveOptions],
    ) -> RemoteSession:
        """Return a live session, to be entered; it has a connection of its own.

        Args:
            observe: called with every event when it arrives, also between answers, and with the
                moment of its arrival, seconds of ``time.perf_counter``. What it raises ends the
                session.
            options: see ``LiveOptions``.
        """
        connect = self._endpoint.websocket
        return RemoteSession(connect, options, observe, self._timeout_s, self._attempts)

    # ---- over plain HTTP

    async def create_session(self, **options: Unpack[LiveOptions]) -> SessionStatus:
        """Open a live session that needs no connection; ``complete`` with its id adopts it.

        Raises:
            InvalidRequest, NotFound: an option is refused.
            Unauthorized: the API key is missing or unknown.
            Overloaded, Unavailable: also the last attempt failed.
        """
        return await self._ask("POST", SESSIONS, SessionStatus, options)

    async def put_input(
        self, session_id: str, text: str, revision: int | None = None
    ) -> SessionStatus:
        """Set the whole text so far; return what is prepared.

        Args:
            session_id: of ``create_session``.
            text: the whole input.
            revision: greater than every earlier one of the session; None = counted by the server.

        Raises:
            NotFound: no such session; it may have expired.
            InvalidRequest, RevisionConflict, PayloadTooLarge: the text is not taken.
            Unauthorized, Overloaded, Unavailable: as ``create_session``.
        """
        body = {"text": text, "revision": revision}
        path = f"{_path(session_id)}/input"
        return await self._ask("PUT", path, SessionStatus, body)

    async def session_status(self, session_id: str) -> SessionStatus:
        """Return what a session has prepared; raises as ``put_input``."""
        return await self._ask("GET", _path(session_id), SessionStatus)

    async def delete_session(self, session_id: str) -> None:
        """Close a session; a running answer is cancelled. Raises as ``put_input``."""
        await self._ask("DELETE", _path(session_id), SessionDeleted)

    async def complete(
        self,
        messages: str | Sequence[Mapping[str, object]],
        *,
        session_id: str | None = None,
        **fields: object,
    ) -> AsyncGenerator[CompletionChunk, None]:
        """Yield an answer of ``POST /v1/chat/completions`` as it comes; the last piece has usage.

        Closing the iterator ends the answer on the server.

        Args:
            messages: the conversation, or the user's text alone.
            session_id: the live session that was typed into; the last message commits it.
            fields: of the request body, by name: ``model``, ``max_tokens``, ``retrieval``, ….

        Raises:
            InvalidRequest, NotFound, PayloadTooLarge: the request is refused.
            Unauthorized: the API key is missing or unknown.
            Overloaded: the server is full, also at the last attempt.
            TurnCancelled: somebody cancelled the answer.
            Unavailable: no expert answers, or the answer broke off; it is not asked for again.
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        options = {"stream": True, "stream_options": {"include_usage": True}}
        body = {**fields, **options, "messages": messages}
        headers = {} if session_id is None else header("X-LiveMind-Session", session_id)
        async with AsyncExitStack() as stack:

            async def send() -> aiohttp.ClientResponse:
                path = "/v1/chat/completions"
                asked = self._endpoint.response("POST", path, body, headers)
                return await stack.enter_async_context(asked)

            response = await repeated(send, self._attempts, was_not_taken)
            async for line in response.content:
                data = line.removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    return
                if line.startswith(b"data:"):
                    yield _chunk(data)
        raise Unavailable("the answer broke off before its end", code=LOST)

    async def models(self) -> tuple[ServedModel, ...]:
        """Return what may be given as ``model``; raises as ``create_session``."""
        return (await self._ask("GET", "/v1/models", _Models)).data

    async def stats(self) -> dict[str, Any]:
        """Return the server's figures: experts, turns, sessions. Raises as ``create_session``."""
        return await self._ask("GET", "/stats", dict[str, Any])

    async def _ask(
        self, method: str, path: str, kind: type[T], body: Mapping[str, object] | None = None
    ) -> T:
        content = await repeated(lambda: self._endpoint.read(method, path, body), self._attempts)
        return decode(content, f"{method} {path}", msgspec.json.Decoder(kind))


class _Models(msgspec.Struct):
    data: tuple[ServedModel, ...]


class _Event(StreamEvent):
    """One event of our own stream."""

    model: str | None = None
    error: ErrorBody | None = None


_EVENT = msgspec.json.Decoder(_Event)


def _chunk(data: bytes) -> CompletionChunk:
    event = decode(data, "the answer's stream", _EVENT)
    if (error := event.error) is not None:
        raise exception(error.message, error.type, error.param, error.code)
    piece = chunk_of(event) or Chunk("")
    return CompletionChunk(piece.text, event.model, piece.finish_reason, piece.usage)


def _path(session_id: str) -> str:
    return f"{SESSIONS}/{quote(session_id, safe='')}"
