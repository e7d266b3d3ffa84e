"""The streaming client against a scripted socket: every packet is chosen by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from livemind.benchmarks.harness.http_stream import HttpFailure, HttpStream

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


@dataclass
class Script:
    """Answers each request with these packets; ``closes`` hangs up after the last."""

    packets: Sequence[bytes]
    closes: bool = False
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            size = next(int(x[16:]) for x in head.split(b"\r\n") if x.startswith(b"Content-Length"))
            self.requests.append(head + await reader.readexactly(size))
            for packet in self.packets:
                writer.write(packet)
                await writer.drain()
                await asyncio.sleep(0)
            if self.closes:
                break
        writer.close()


@asynccontextmanager
async def _stream(script: Script, path: str = "") -> AsyncIterator[HttpStream]:
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    stream = HttpStream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}")
    try:
        yield stream
    finally:
        stream.close()
        server.close()
        await server.wait_closed()


async def _post(stream: HttpStream) -> tuple[float, list[tuple[float, bytes]]]:
    sent: list[float] = []
    lines: list[tuple[float, bytes]] = []
    await stream.post(
        "/x",
        b"{}",
        {"X-Own": "1"},
        sent.append,
        lambda at_s, content: lines.append((at_s, content)),
    )
    return sent[0], lines


def _chunked(content: bytes) -> list[bytes]:
    """Return a whole answer of one-byte chunks in one-byte packets."""
    body = b"".join(b"1\r\n" + bytes((byte,)) + b"\r\n" for byte in content) + b"0\r\n\r\n"
    whole = OK + b"Transfer-Encoding: chunked\r\n\r\n" + body
    return [whole[n : n + 1] for n in range(len(whole))]


async def test_post_lines_in_any_packets_are_whole_and_in_rising_time() -> None:
    async with _stream(Script(_chunked("data: é\r\n\ndata: x\n".encode()))) as stream:
        sent_s, lines = await _post(stream)
    assert [content.decode() for _, content in lines] == ["data: é", "", "data: x"]
    times = [sent_s, *(at_s for at_s, _ in lines)]
    assert times == sorted(times)


async def test_post_two_requests_use_one_connection() -> None:
    script = Script(_chunked(b"data: x\n"))
    async with _stream(script, "/base") as stream:
        await _post(stream)
        await _post(stream)
    assert script.connections == 1
    assert script.requests[0].startswith(b"POST /base/x HTTP/1.1\r\n")
    assert b"\r\nX-Own: 1\r\n" in script.requests[1]
    assert script.requests[1].endswith(b"\r\n\r\n{}")


async def test_post_server_that_hung_up_gets_a_new_connection() -> None:
    script = Script([OK + b"Connection: close\r\n\r\ndata: x\n"], closes=True)
    async with _stream(script) as stream:
        assert [content for _, content in (await _post(stream))[1]] == [b"data: x"]
        await _post(stream)
    assert script.connections == 2


async def test_post_other_status_raises_with_its_body_and_no_line() -> None:
    head = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 5\r\n\r\n"
    async with _stream(Script([head, b"wa", b"it\n"])) as stream:
        with pytest.raises(HttpFailure, match="HTTP 429: wait"):
            await _post(stream)


async def test_post_answer_cut_off_raises() -> None:
    cut = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nda"
    async with _stream(Script([cut], closes=True)) as stream:
        with pytest.raises(Exception, match=r"peer closed connection|closed before"):
            await _post(stream)


async def test_post_failing_line_raises_it_here() -> None:
    def refuse(at_s: float, content: bytes) -> None:
        raise ValueError(content.decode())

    async with _stream(Script(_chunked(b"bad\n"))) as stream:
        with pytest.raises(ValueError, match="bad"):
            await stream.post("/x", b"{}", {}, lambda at_s: None, refuse)


async def test_base_url_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="base_url: got 'ftp://x'"):
        HttpStream("ftp://x")
