"""A client's web socket whose frames are masked, as RFC 6455 (section 5.1) demands of clients.

The mask is what keeps a web page from choosing the bytes that a proxy on the way takes for HTTP; a
server has to close a connection at the first frame without one. aiohttp takes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import WebSocketError, WSCloseCode, web

_MASKED = 0x80
_LENGTH_BYTES = {126: 2, 127: 8}
_MASK_BYTES = 4


class ClientSocket(web.WebSocketResponse):
    """A ``WebSocketResponse`` that ends with 1002 at a frame that is not masked."""

    _frames: MaskedFrames | None = None

    @property
    def arrived_s(self) -> float:
        """When its newest bytes came, by the event loop's clock."""
        return 0.0 if self._frames is None else self._frames.arrived_s

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: Any) -> None:
        early = request.protocol._message_tail  # frames that came with the upgrade
        super()._post_start(request, protocol, writer)
        self._frames = MaskedFrames(self._parser, self._reader, asyncio.get_running_loop().time)
        request.protocol._payload_parser = self._frames
        self._frames.check(early)


class _Frames(Protocol):
    def feed_data(self, data: bytes) -> tuple[bool, bytes]: ...
    def feed_eof(self) -> None: ...


class _Messages(Protocol):
    def set_exception(self, exc: BaseException) -> None: ...


class MaskedFrames:
    """Hands bytes on to the reader of frames, up to the first frame without a mask.

    Args:
        frames: the reader.
        messages: what it fills; is told of the end.
        clock: the event loop's.

    Attributes:
        arrived_s: when the newest bytes came.
    """

    def __init__(self, frames: Any, messages: Any, clock: Callable[[], float]) -> None:
        self.arrived_s = 0.0
        self._now = clock
        self._frames: _Frames = frames
        self._messages: _Messages = messages
        self._head = bytearray()
        self._rest = 0  # bytes up to the next header
        self._over = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes as they come; see aiohttp's reader."""
        return self._frames.feed_data(data) if self.check(data) else (True, b"")

    def feed_eof(self) -> None:
        """Take the end."""
        self._frames.feed_eof()

    def check(self, data: bytes) -> bool:
        """Return whether every frame that begins in ``data`` is masked; end the messages if not."""
        self.arrived_s = self._now()
        if not self._over and not self._all_masked(data):
            self._over = True
            message = "the frames of a client must be masked (RFC 6455, 5.1)"
            self._messages.set_exception(WebSocketError(WSCloseCode.PROTOCOL_ERROR, message))
        return not self._over

    def _all_masked(self, data: bytes) -> bool:
        head, place = self._head, 0
        while place < len(data):
            if self._rest:
                step = min(self._rest, len(data) - place)
                self._rest -= step
                place += step
                continue
            head.append(data[place])
            place += 1
            if len(head) < 2:
                continue
            if not head[1] & _MASKED:
                return False
            length = head[1] & ~_MASKED
            if len(head) == 2 + _LENGTH_BYTES.get(length, 0):
                self._rest = _MASK_BYTES + (int.from_bytes(head[2:]) if len(head) > 2 else length)
                head.clear()
        return True
