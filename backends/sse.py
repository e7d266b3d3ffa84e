"""Reads server-sent events from an untrusted server: every length is bounded."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

MAX_LINE_BYTES = 1 << 20
MAX_STREAM_BYTES = 64 << 20
DONE = "[DONE]"


class StreamTooLarge(ValueError):
    """A line or the whole stream is longer than any answer can be."""


async def data_blocks(
    stream: AsyncIterator[bytes],
    *,
    max_line_bytes: int = MAX_LINE_BYTES,
    max_stream_bytes: int = MAX_STREAM_BYTES,
) -> AsyncGenerator[list[str], None]:
    """Yield the payloads of the ``data:`` lines that arrived together, up to ``[DONE]``.

    No list is empty. Ends without an error when the stream ends. Comments and other fields are
    skipped.

    Raises:
        StreamTooLarge: a limit is passed.
    """
    rest, total = b"", 0
    async for block in stream:
        total += len(block)
        if total > max_stream_bytes:
            raise StreamTooLarge(f"more than {max_stream_bytes} bytes")
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > max_line_bytes or any(len(line) > max_line_bytes for line in lines):
            raise StreamTooLarge(f"a line of more than {max_line_bytes} bytes")
        payloads = [
            line[5:].strip().decode("utf-8", "replace")
            for line in lines
            if line.startswith(b"data:")
        ]
        if DONE in payloads:
            payloads = payloads[: payloads.index(DONE)]
            if payloads:
                yield payloads
            return
        if payloads:
            yield payloads
