"""What a web socket does with frames that a client did not mask, on a real connection."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
from typing import Any

import pytest

from livemind.orchestrator.server.live.masking import MaskedFrames

MASK = b"\x01\x02\x03\x04"


def frame(payload: bytes, *, masked: bool = True, opcode: int = 1, wide: bool = False) -> bytes:
    bit = 0x80 if masked else 0
    if len(payload) < 126 and not wide:
        head = bytes((0x80 | opcode, bit | len(payload)))
    elif len(payload) < 65536:
        head = bytes((0x80 | opcode, bit | 126)) + len(payload).to_bytes(2)
    else:
        head = bytes((0x80 | opcode, bit | 127)) + len(payload).to_bytes(8)
    if not masked:
        return head + payload
    mixed = bytes(byte ^ key for byte, key in zip(payload, itertools.cycle(MASK), strict=False))
    return head + MASK + mixed


class Sink:
    """Stands for aiohttp's reader and its queue."""

    def __init__(self) -> None:
        self.taken = b""
        self.error: BaseException | None = None

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.taken += data
        return False, b""

    def feed_eof(self) -> None:
        self.taken += b"EOF"

    def set_exception(self, exc: BaseException) -> None:
        self.error = exc


@pytest.mark.parametrize("step", [1, 2, 3, 7, 10_000_000])
def test_masked_frames_of_every_length_pass_however_they_are_cut(step: int) -> None:
    sink = Sink()
    frames = MaskedFrames(sink, sink, lambda: 0.0)
    sizes = (0, 1, 125, 126, 300) if step < 10 else (0, 125, 126, 65535, 65536, 200_000)
    stream = b"".join(frame(os.urandom(size)) for size in sizes) + frame(b"", opcode=9)
    for start in range(0, len(stream), step):
        assert frames.feed_data(stream[start : start + step]) == (False, b"")
    frames.feed_eof()
    assert (sink.taken, sink.error) == (stream + b"EOF", None)


@pytest.mark.parametrize("step", [1, 3, 10_000_000])
@pytest.mark.parametrize("size", [0, 5, 126, 70_000])
def test_first_frame_without_a_mask_ends_everything(size: int, step: int) -> None:
    sink = Sink()
    frames = MaskedFrames(sink, sink, lambda: 0.0)
    stream = frame(b"a" * 200) + frame(b"b" * size, masked=False) + frame(b"c")
    told = [frames.feed_data(stream[start : start + step]) for start in range(0, len(stream), step)]
    assert told[-1] == (True, b"")
    assert "must be masked" in str(sink.error)
    assert len(sink.taken) <= len(frame(b"a" * 200)) + 1


@pytest.mark.parametrize("path", ["/v1/live", "/v1/realtime"])
@pytest.mark.parametrize("early", [True, False])
async def test_door_closes_with_a_protocol_error_at_an_unmasked_frame(
    serve: Any, path: str, early: bool
) -> None:
    async with serve() as doors:
        host, port = doors.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        )
        clear = json.dumps({"type": "input_text.append", "text": "x", "revision": 1}).encode()
        unmasked = frame(clear, masked=False)
        writer.write(upgrade.encode() + (unmasked if early else b""))
        assert b"101" in await reader.readuntil(b"\r\n\r\n")
        if not early:
            writer.write(frame(b"{}") + unmasked)
        async with asyncio.timeout(10):
            rest = await reader.read()
        assert b"\x88" in rest
        assert (1002).to_bytes(2) in rest
        writer.close()
        await doors.quiet()
