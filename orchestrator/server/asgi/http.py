"""One HTTP request of an ASGI server: asked over HTTP/1.1 in memory, answered piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import h11

from ...errors import InvalidRequest, from_exception
from ..middleware import error_response
from .transport import MemoryTransport, Message, Receive, Scope, Send, both_ways

# About one connection (RFC 9110, 7.6.1); ours is another one. An ASGI server itself asks its client
# to continue.
OF_ONE_CONNECTION = frozenset(
    (b"connection", b"expect", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade")
)
# An ASGI server says these of itself.
OF_THE_SERVER = frozenset((b"connection", b"date", b"keep-alive", b"server", b"transfer-encoding"))
BODILESS = frozenset(("DELETE", "GET", "HEAD", "OPTIONS"))
MAX_HEAD_BYTES = 1 << 20


def target(scope: Scope) -> str:
    """Return path and query as the application knows them: without what it is mounted under."""
    raw = scope.get("raw_path")
    path = raw.decode("ascii", "replace") if raw else quote(scope["path"])
    root = quote(scope.get("root_path", "")).rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    query = scope.get("query_string", b"").decode("ascii", "replace")
    return (path or "/") + (f"?{query}" if query else "")


def headers_of(scope: Scope) -> Iterator[tuple[bytes, bytes]]:
    """Yield the headers that are the application's business."""
    has_host = False
    for name, value in scope["headers"]:
        lower = name.lower()
        has_host = has_host or lower == b"host"
        if lower not in OF_ONE_CONNECTION:
            yield lower, value
    if not has_host:  # HTTP/1.0
        yield b"host", b""


def _framed(scope: Scope) -> Iterator[tuple[bytes, bytes]]:
    """Yield the headers of a request with what says where its body ends."""
    ends = scope.get("http_version", "1.1").startswith("1") or scope["method"] in BODILESS
    for name, value in headers_of(scope):
        ends = ends or name == b"content-length"
        yield name, b"chunked" if name == b"transfer-encoding" else value
    if not ends:  # HTTP/2 says by itself where a body ends
        yield b"transfer-encoding", b"chunked"
    yield b"connection", b"close"


class HttpExchange:
    """One request and its answer.

    Args:
        transport: a new connection.
        scope, receive, send: of the ASGI server.
    """

    def __init__(
        self, transport: MemoryTransport, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._transport = transport
        self._scope = scope
        self._receive = receive
        self._send = send
        self._client = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._gone = False

    async def run(self) -> None:
        """Ask and answer; a client that leaves is told to the application.

        Raises:
            ConnectionResetError: the answer broke off, which ASGI servers tell by doing so, too.
        """
        try:
            head = h11.Request(
                method=self._scope["method"],
                target=target(self._scope),
                headers=[*_framed(self._scope)],
            )
        except h11.LocalProtocolError:
            await self._refuse()
            return
        await both_ways(self._transport, self._ask(head), self._answer())

    async def _refuse(self) -> None:
        message = "the request cannot be read: it is no valid HTTP"
        info = from_exception(InvalidRequest(message, code="invalid_http"))
        told = error_response(info)
        headers = [(name.lower().encode(), value.encode()) for name, value in told.headers.items()]
        await self._send({"type": "http.response.start", "status": told.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": told.body, "more_body": False})

    async def _ask(self, head: h11.Request) -> None:
        await self._feed(head)
        while (message := await self._receive())["type"] == "http.request":
            if body := message.get("body"):
                await self._feed(h11.Data(data=body))
            if not message.get("more_body") and self._client.our_state is h11.SEND_BODY:
                await self._feed(h11.EndOfMessage())
        self._gone = True
        self._transport.lose()

    async def _feed(self, event: h11.Event) -> None:
        await self._transport.feed(self._client.send(event) or b"")

    async def _answer(self) -> None:
        while not self._gone:
            try:
                messages = [*self._told()]
            except h11.RemoteProtocolError:
                if self._gone:
                    return
                raise ConnectionResetError("the answer broke off") from None
            for message in messages:
                await self._send(message)
                if message.get("more_body") is False:
                    return
            self._client.receive_data(await self._transport.read())

    def _told(self) -> Iterator[Message]:
        """Yield what the bytes that have come say: the head, and one piece of the body."""
        body, over = bytearray(), False
        while not over:
            match event := self._client.next_event():
                case h11.Response():
                    headers = [pair for pair in event.headers if pair[0] not in OF_THE_SERVER]
                    status = event.status_code
                    yield {"type": "http.response.start", "status": status, "headers": headers}
                case h11.Data():
                    body += event.data
                case h11.EndOfMessage():
                    over = True
                case h11.InformationalResponse():
                    pass
                case _:  # NEED_DATA, PAUSED
                    break
        if body or over:
            yield {"type": "http.response.body", "body": bytes(body), "more_body": not over}
