"""The proxy of ``livemind record``: passes everything on as it is, and follows live sessions.

Sessions are followed on both sockets and over plain HTTP.

What goes through it is held no longer than it takes; written is what ``turns.py`` makes of it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import perf_counter

import aiohttp
from aiohttp import WSMsgType, web

from ....rag.access.origins import Origins
from .http_turns import Followed, Sessions
from .live_turns import LiveTurns
from .realtime_turns import RealtimeTurns
from .turns import Json, Turns

SOCKETS: dict[str, type[LiveTurns | RealtimeTurns]] = {
    "/v1/live": LiveTurns,
    "/v1/realtime": RealtimeTurns,
}
MAX_FRAME_BYTES = 1 << 26
# Of one connection, not of the message (RFC 9110, 7.6.1); the host is the other server's.
HOP = frozenset(
    (
        "connection",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)

Write = Callable[[list[Json]], None]
Note = Callable[[Json, float], None]


class RecordingProxy:
    """Passes requests on to a server.

    Args:
        target: URL of the server, without a path.
        write: called with the lines of each turn that was completed.
        texts: record texts, too.
        host: address that it listens on.
    """

    def __init__(self, target: str, write: Write, *, texts: bool, host: str) -> None:
        self._target = target.rstrip("/")
        self._write = write
        self._texts = texts
        self._sessions = Sessions(self._turns)
        self._rules = Origins(host, origins=("*",))  # the server judges those itself
        self._http: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def running(self, host: str, port: int) -> AsyncIterator[str]:
        """Listen inside this block; yields the URL. Raises OSError: it cannot."""
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as self._http:
            await runner.setup()
            try:
                await web.TCPSite(runner, host, port).start()
                name, bound = runner.addresses[0][:2]
                yield f"http://{f'[{name}]' if ':' in name else name}:{bound}"
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        refused = self._rules.refusal(request.method, request.headers, has_body=False)
        if refused is not None:
            return _error(refused.status, refused.code, refused.message)
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._socket(request)
            return await self._request(request)
        except (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError):
            message = f"the server that is recorded does not answer: {self._target}"
            return _error(502, "unreachable", message)

    async def _request(self, request: web.Request) -> web.StreamResponse:
        assert self._http is not None
        followed = self._sessions.followed(request.method, request.path, request.headers)
        body = _tee(request, followed) if request.can_read_body else None
        async with self._http.request(
            request.method,
            self._target + request.raw_path,
            headers=[(k, v) for k, v in request.headers.items() if k.lower() not in HOP],
            data=body,
            allow_redirects=False,
        ) as answer:
            if followed is not None:
                followed.answered(answer.status, answer.headers)
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in HOP:
                    response.headers.add(name, value)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                at_s = perf_counter()
                await response.write(piece)
                if followed is not None:
                    followed.piece(piece, at_s)
            await response.write_eof()
            if followed is not None and (lines := followed.ended(perf_counter())):
                self._write(lines)
            return response

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        assert self._http is not None
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        own = ("authorization", "origin", "user-agent", "cookie")
        try:
            server = await self._http.ws_connect(
                self._target + request.raw_path,
                headers={k: v for k, v in request.headers.items() if k.lower() in own},
                protocols=[name.strip() for name in offered.split(",") if name.strip()],
                max_msg_size=MAX_FRAME_BYTES,
            )
        except aiohttp.WSServerHandshakeError as exc:
            return _error(exc.status, "refused", "the server that is recorded refused the socket")
        async with server:
            chosen = (server.protocol,) if server.protocol else ()
            client = web.WebSocketResponse(protocols=chosen, max_msg_size=MAX_FRAME_BYTES)
            await client.prepare(request)
            note_sent, note_received = (
                self._notes(request) if request.path in SOCKETS else (None, None)
            )
            sent = asyncio.create_task(_pump(client, server, note_sent))
            received = asyncio.create_task(_pump(server, client, note_received))
            try:
                await asyncio.wait({sent, received}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (sent, received):
                    task.cancel()
                await asyncio.gather(sent, received, return_exceptions=True)
            await server.close()
            await client.close(code=server.close_code or 1000)
            return client

    def _turns(self) -> Turns:
        return Turns(secrets.token_hex(4), texts=self._texts)

    def _notes(self, request: web.Request) -> tuple[Note, Note]:
        """Return what follows the session of a socket: its frames, its events."""
        turns, owner = self._turns(), request.headers.get("Authorization", "")
        following = SOCKETS[request.path](turns)

        def received(event: Json, at_s: float) -> None:
            match event:
                case {"type": "session.created", "session": {"id": str(session_id)}}:
                    self._sessions.keep(owner, session_id, turns)
            if lines := following.received(event, at_s):
                self._write(lines)

        return following.sent, received


Side = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pump(source: Side, sink: Side, note: Note | None) -> None:
    """Pass messages on until the source ends; what is noted has been passed on before."""
    async for message in source:
        at_s = perf_counter()
        if message.type is WSMsgType.TEXT:
            await sink.send_str(message.data)
            if note is not None and isinstance(frame := _parsed(message.data), dict):
                note(frame, at_s)
        elif message.type is WSMsgType.BINARY:
            await sink.send_bytes(message.data)


async def _tee(request: web.Request, followed: Followed | None) -> AsyncIterator[bytes]:
    """Yield a body as it comes; what follows the request gets it whole, before its last piece."""
    whole = bytearray()
    async for piece in request.content.iter_any():
        if followed is not None:
            whole += piece
        yield piece
    if followed is not None:
        followed.asked(bytes(whole), perf_counter())


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _error(status: int, code: str, message: str) -> web.Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return web.json_response({"error": error}, status=status)
