"""Reads server-sent events from an untrusted server: every length is bounded."""

from __future__ import annotations

MAX_LINE_BYTES = 1 << 20
MAX_STREAM_BYTES = 64 << 20
DONE = "[DONE]"


class StreamTooLarge(ValueError):
    """A line or the whole stream is longer than any answer can be."""


class EventReader:
    """Takes a stream block by block and gives its events, up to ``[DONE]``.

    Args:
        max_line_bytes, max_stream_bytes: what is longer is refused.
    """

    def __init__(
        self, max_line_bytes: int = MAX_LINE_BYTES, max_stream_bytes: int = MAX_STREAM_BYTES
    ) -> None:
        self._max_line_bytes = max_line_bytes
        self._max_stream_bytes = max_stream_bytes
        self._rest = b""
        self._total = 0
        self.done = False

    def feed(self, block: bytes) -> list[str]:
        """Return the payloads of the ``data:`` lines that this block ends.

        Comments and other fields are skipped; after ``[DONE]`` nothing counts.

        Raises:
            StreamTooLarge: a limit is passed.
        """
        self._total += len(block)
        if self._total > self._max_stream_bytes:
            raise StreamTooLarge(f"more than {self._max_stream_bytes} bytes")
        *lines, self._rest = (self._rest + block).split(b"\n")
        if max(map(len, (self._rest, *lines))) > self._max_line_bytes:
            raise StreamTooLarge(f"a line of more than {self._max_line_bytes} bytes")
        payloads: list[str] = []
        for line in lines:
            if not line.startswith(b"data:") or self.done:
                continue
            payload = line[5:].strip().decode("utf-8", "replace")
            self.done = payload == DONE
            if payload and not self.done:
                payloads.append(payload)
        return payloads
