"""One WebSocket of an ASGI server: the same frames over a connection in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from .http import OF_THE_SERVER, headers_of, target
from .transport import MemoryTransport, Message, Receive, Scope, Send, both_ways

# What is said of frames holds their text.
_frames_log = logging.getLogger("livemind.http.frames")
_frames_log.setLevel(logging.WARNING)
_OF_HANDSHAKE = b"sec-websocket-"
ABNORMAL = 1006


class SocketExchange:
    """One WebSocket; arguments as ``HttpExchange``'s. A ping of either end is answered here."""

    def __init__(
        self, transport: MemoryTransport, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._transport = transport
        self._scope = scope
        self._receive = receive
        self._send = send
        uri = parse_uri("ws://localhost" + target(scope))
        offered = scope.get("subprotocols") or None
        self._client = ClientProtocol(uri, subprotocols=offered, max_size=None, logger=_frames_log)
        self._parts: list[Frame] = []
        self._over = False

    async def run(self) -> None:
        """Speak until either side ends.

        Raises:
            ConnectionResetError: the server broke it off.
        """
        await both_ways(self._transport, self._ask(), self._answer())

    async def _ask(self) -> None:
        while (message := await self._receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.connect":
                self._shake_hands()
            elif (text := message.get("text")) is not None:
                self._client.send_text(text.encode())
            else:
                self._client.send_binary(message["bytes"])
            await self._flush()
        self._over = True
        self._transport.lose()

    def _shake_hands(self) -> None:
        request = self._client.connect()
        told = Headers()
        del request.headers["Host"]
        for name, value in headers_of(self._scope):
            if not name.startswith(_OF_HANDSHAKE):
                told[name.decode("latin-1")] = value.decode("latin-1")
        request.headers.update(told)
        self._client.send_request(request)

    async def _flush(self) -> None:
        for data in self._client.data_to_send():
            await self._transport.feed(data)

    async def _answer(self) -> None:
        while not self._over:
            if not (data := await self._transport.read()):
                if not self._over:
                    await self._send({"type": "websocket.close", "code": ABNORMAL, "reason": ""})
                return
            self._client.receive_data(data)
            await self._flush()
            for message in self._told():
                await self._send(message)

    def _told(self) -> Iterator[Message]:
        for event in self._client.events_received():
            if isinstance(event, Response):
                yield from self._handshake(event)
            elif isinstance(event, Frame):
                yield from self._frame(event)

    def _handshake(self, response: Response) -> Iterator[Message]:
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in response.headers.raw_items()
        ]
        skipped = {*OF_THE_SERVER, b"upgrade"}
        headers = [
            pair
            for pair in headers
            if pair[0] not in skipped and not pair[0].startswith(_OF_HANDSHAKE)
        ]
        if response.status_code == 101:
            protocol = self._client.subprotocol
            yield {"type": "websocket.accept", "subprotocol": protocol, "headers": headers}
            return
        self._over = True
        if "websocket.http.response" not in (self._scope.get("extensions") or {}):
            yield {"type": "websocket.close", "code": ABNORMAL, "reason": ""}
            return
        kind = "websocket.http.response"
        yield {"type": f"{kind}.start", "status": response.status_code, "headers": headers}
        yield {"type": f"{kind}.body", "body": bytes(response.body or b""), "more_body": False}

    def _frame(self, frame: Frame) -> Iterator[Message]:
        if frame.opcode is Opcode.CLOSE:
            self._over = True
            close = self._client.close_rcvd
            assert close is not None
            yield {"type": "websocket.close", "code": close.code, "reason": close.reason}
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._parts.append(frame)
            if frame.fin:
                kind, whole = self._parts[0].opcode, b"".join(part.data for part in self._parts)
                self._parts.clear()
                if kind is Opcode.TEXT:
                    yield {"type": "websocket.send", "text": whole.decode()}
                else:
                    yield {"type": "websocket.send", "bytes": whole}
