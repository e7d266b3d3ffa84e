"""``ws /v1/responses``: the Responses API over one WebSocket, as its clients' ``connect`` has it.

A frame ``response.create`` is a request, and its answer are the events of a stream. Frames of one
``stream_id`` are answered one after the other, those of others beside them. What was answered last
on a lane can be followed up although it is not stored.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web
from msgspec import DecodeError, json

from ....errors import ErrorInfo, InvalidRequest, LiveMindError, Overloaded, Unavailable
from ...live.connection import CLOSE_TIMEOUT_S, client_socket, spoken_on
from ...live.masking import ClientSocket
from ...middleware import error_info, log_failure
from ...state import OWNER, REQUEST_ID, SHUTTING_DOWN, STATE, ServerState
from ...tracing.arrival import arrived_s
from ...validation import parse
from ..chat import one_opening
from .body import ResponsesRequest
from .routes import RESPONSES, frames, repeated
from .store import Kept
from .writer import ResponseWriter

Json = dict[str, Any]
MOST_LANES = 16
MOST_WAITING = 16
"""Frames of one lane that wait for those before them."""
_CREATE = "response.create"
_NOT_HERE = {"response.steer": "input for a response that is being written is not taken"}


async def connect(request: web.Request) -> web.WebSocketResponse:
    """Answer frames until either side ends."""
    state = request.app[STATE]
    socket = client_socket(request, state, instead="; without one use POST")
    await socket.prepare(request)
    async with spoken_on(socket, state, "a connection of responses"):
        await _Connection(request, state, socket).run()
    return socket


class _End(Exception):
    """Close the connection with this code."""

    def __init__(self, code: WSCloseCode) -> None:
        super().__init__(code)
        self.code = code


class _Lane:
    """The frames of one ``stream_id`` and the response that can be followed up."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.waiting: asyncio.Queue[tuple[Json, float]] = asyncio.Queue(MOST_WAITING)
        self.writer: ResponseWriter | None = None
        self.last: Kept | None = None


class _Connection:
    def __init__(self, request: web.Request, state: ServerState, socket: ClientSocket) -> None:
        self._request = request
        self._state = state
        self._socket = socket
        self._owner = request.get(OWNER)
        self._lanes: dict[str | None, _Lane] = {}
        self._sending = asyncio.Lock()
        self._asked = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Read until the client leaves, is too slow, or the server stops."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(group), name="responses-read")
                group.create_task(self._watch(), name="responses-stopping")
        except* _End as ends:
            end = ends.exceptions[0]
            assert isinstance(end, _End)
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._socket.close(code=end.code)
        except* ConnectionError:
            pass

    async def _watch(self) -> None:
        await self._state.in_flight.stopping.wait()
        await self._idle.wait()  # what was asked is answered; the server ends it at last
        await self._refuse(Unavailable(SHUTTING_DOWN, retry_after_s=1.0), None)
        raise _End(WSCloseCode.GOING_AWAY)

    async def _read(self, group: asyncio.TaskGroup) -> None:
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.BINARY:
                error = InvalidRequest("binary frames are not supported", code="unsupported_frame")
                await self._refuse(error, None)
                continue
            if message.type is not WSMsgType.TEXT:
                raise _End(WSCloseCode.OK)
            name: str | None = None
            try:
                fields = _frame(message.data)
                name = _lane_name(fields.pop("stream_id", None))
                self._lane(name, group).waiting.put_nowait((fields, self._socket.arrived_s))
                self._asked += 1
                self._idle.clear()
            except asyncio.QueueFull:
                message_ = f"{MOST_WAITING} requests of this stream_id wait already"
                await self._refuse(Overloaded(message_, code="too_many_requests"), name)
            except LiveMindError as error:
                await self._refuse(error, name)

    def _lane(self, name: str | None, group: asyncio.TaskGroup) -> _Lane:
        if self._state.in_flight.stopping.is_set():
            raise Unavailable(SHUTTING_DOWN, retry_after_s=1.0)
        if (lane := self._lanes.get(name)) is None:
            if len(self._lanes) == MOST_LANES:
                message = f"stream_id: a connection has {MOST_LANES} at most"
                raise Overloaded(message, code="too_many_streams")
            lane = self._lanes[name] = _Lane(name)
            group.create_task(self._serve(lane), name="responses-lane")
        return lane

    async def _serve(self, lane: _Lane) -> None:
        while True:
            fields, at_s = await lane.waiting.get()
            arrived_s.set(at_s)
            answering = asyncio.create_task(self._answer(lane, fields), name="responses-answer")
            try:
                await asyncio.wait([answering])  # it may be cancelled alone, by its response's id
            finally:
                self._asked -= 1
                if not self._asked:
                    self._idle.set()
                answering.cancel()
                await asyncio.wait([answering])
            if not answering.cancelled():
                answering.result()
            elif lane.writer is not None:
                info = ErrorInfo(499, "the response was cancelled", "cancelled", None, "cancelled")
                await self._send(lane.name, lane.writer.fail(info))

    # ---- one response

    async def _answer(self, lane: _Lane, fields: Json) -> None:
        try:
            generates = fields.pop("generate", None) is not False
            fields.pop("stream", None)
            if not generates:
                fields["max_output_tokens"] = 1
            limit = self._state.limits.max_text_chars
            body = parse(RESPONSES, json.encode(fields), max_text_chars=limit)
            chat, messages = body.chat(self._before(lane, body), max_text_chars=limit)
            writer = ResponseWriter(repeated(body), logprobs=bool(body.top_logprobs))
            lane.writer = writer
            kept = Kept(writer.payload, body.items, messages, self._owner)
            with self._state.responses.writing(kept):
                await self._written(lane, body, chat, writer, kept, generates=generates)
            lane.last = kept
        except (ConnectionError, _End):
            raise
        except Exception as error:
            if error_info(error).status == 500:
                log_failure(f"request {self._request[REQUEST_ID]}", error)
            await self._refuse(error, lane.name)

    async def _written(
        self,
        lane: _Lane,
        body: ResponsesRequest,
        chat: Any,
        writer: ResponseWriter,
        kept: Kept,
        *,
        generates: bool,
    ) -> None:
        opening, _ = await one_opening(self._request, self._state, chat, writer.id)
        async with opening as turn:
            if not generates:  # what stands in the prompt is in the engine's cache then
                async for _ in turn:
                    pass
                assert turn.done is not None
                told = [*writer.begin(turn.expert or ""), *writer.warmed(turn.done)]
                if body.keeps:
                    self._state.responses.put(kept)
                await self._send(lane.name, told)
                return
            async for events in frames(
                self._state, self._request, turn, writer, kept, keeps=body.keeps
            ):
                await self._send(lane.name, events)

    def _before(self, lane: _Lane, body: ResponsesRequest) -> list[Json]:
        wanted = body.previous_response_id
        if wanted is None:
            return []
        for known in (lane, *self._lanes.values()):
            if known.last is not None and known.last.id == wanted:
                return known.last.messages
        return self._state.responses.get(wanted, self._owner, "previous_response_id").messages

    # ---- the wire

    async def _refuse(self, error: Exception, name: str | None) -> None:
        info: ErrorInfo = error_info(error)
        frame: Json = {"type": "error", "status": info.status, **info.envelope()}
        await self._put([frame], name)

    async def _send(self, name: str | None, events: Any) -> None:
        await self._put([event.payload for event in events], name)

    async def _put(self, payloads: list[Json], name: str | None) -> None:
        lane = {} if name is None else {"stream_id": name}
        try:
            async with asyncio.timeout(self._state.limits.send_timeout_s), self._sending:
                for payload in payloads:
                    await self._socket.send_str(json.encode({**payload, **lane}).decode())
        except TimeoutError:
            raise _End(WSCloseCode.TRY_AGAIN_LATER) from None


def _frame(raw: str) -> Json:
    """Return the fields of a request.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        fields = json.decode(raw)
    except (DecodeError, RecursionError):
        raise InvalidRequest("the frame is not valid JSON", code="invalid_json") from None
    kind = fields.pop("type", None) if isinstance(fields, dict) else None
    if kind != _CREATE:
        known = _NOT_HERE.get(kind) if isinstance(kind, str) else None
        message = f"type: {known}" if known else f"type: need {_CREATE}"
        code = "unsupported_event" if known else "unknown_event"
        raise InvalidRequest(message, param="type", code=code)
    found: Json = fields
    return found


def _lane_name(value: object) -> str | None:
    if value is None or (isinstance(value, str) and 0 < len(value) <= 256):
        return value
    message = "stream_id: need a text of 1 to 256 characters"
    raise InvalidRequest(message, param="stream_id", code="invalid_value")
