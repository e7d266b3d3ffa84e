"""What is no HTTP gets the bridge's envelope too, and one line in its log."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

NOT_HTTP = {
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n": (400, "invalid_http"),
    b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n": (400, "invalid_http"),
    b"GET / HTTP/1.1\r\nA: " + b"a" * 70_000 + b"\r\n\r\n": (400, "invalid_http"),
    b"POST /v1/retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: zstd\r\n"
    b"Content-Length: 1\r\n\r\nx": (415, "unsupported_content_encoding"),
    b"POST /v1/retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Encoding: gzip\r\nContent-Length: 7\r\n\r\nno gzip": (400, "invalid_body"),
    b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Encoding: gzip\r\nContent-Length: 7\r\n\r\nno gzip": (404, "not_found"),
}


@pytest.mark.parametrize(
    "sent", NOT_HTTP, ids=["binary", "header", "long", "encoding", "body", "unread"]
)
async def test_bridge_answers_what_is_no_http_with_its_envelope(
    bridge_url: str, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    host, _, port = bridge_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status, code = NOT_HTTP[sent]
    assert head.split()[1] == str(status).encode()
    assert json.loads(body)["error"]["code"] == code
    assert "Traceback" not in caplog.text
