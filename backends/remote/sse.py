"""Reads server-sent events from an untrusted server: every length is bounded, and the work linear.

As the standard has it: lines end with CR, LF or both, a byte order mark at the beginning does not
count, and the ``data:`` lines of one event are one text. Servers that leave out the blank line
between two events are understood as well.
"""

from __future__ import annotations

from codecs import BOM_UTF8

import msgspec

MAX_LINE_BYTES = 1 << 20
MAX_STREAM_BYTES = 64 << 20
DONE = "[DONE]"
FEW_LINES = 16
"""Of so many lines an event may consist whose blank line is not waited for."""


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
        self._line: list[bytes] = []  # pieces of the line that has not ended
        self._line_bytes = 0
        self._data: list[str] = []  # of the event that has not ended
        self._total = 0
        self._after_cr = False
        self._is_first = True
        self.done = False

    def feed(self, block: bytes) -> list[str]:
        """Return the payloads of the events that this block ends.

        Comments and other fields are skipped; after ``[DONE]`` nothing counts. Data whose event has
        not ended counts as one as soon as it is whole: some servers send the blank line late.

        Raises:
            StreamTooLarge: a limit is passed.
        """
        self._total += len(block)
        if self._total > self._max_stream_bytes:
            raise StreamTooLarge(f"more than {self._max_stream_bytes} bytes")
        payloads: list[str] = []
        lines = self._lines(block)
        if self._is_first and lines:
            lines[0], self._is_first = lines[0].removeprefix(BOM_UTF8), False
        for line in lines:
            if not line:
                if self._data:
                    payloads += self._event()
            elif line.startswith(b"data:") and not self.done:
                data = line[5:].strip().decode("utf-8", "replace")
                if data == DONE:
                    payloads += self._event()
                    self.done = True
                elif data:
                    self._data.append(data)
        if self._data and len(self._data) <= FEW_LINES and _is_json("\n".join(self._data)):
            payloads += self._event()
        return payloads

    def end(self) -> list[str]:
        """Return what the stream has left open when it ends."""
        return [] if self.done else self._event()

    def _lines(self, block: bytes) -> list[bytes]:
        """Return the lines that this block ends, and keep the rest."""
        if self._after_cr and block.startswith(b"\n"):
            block = block[1:]
        if block:
            self._after_cr = block.endswith(b"\r")
        lines = block.splitlines()
        whole = block.endswith((b"\r", b"\n"))
        before = self._line_bytes
        if lines:
            self._line.append(lines[0])
            self._line_bytes += len(lines[0])
        if before + len(block) > self._max_line_bytes:  # no line of a smaller block can be too long
            longest = max(self._line_bytes, max(map(len, lines), default=0))
            if longest > self._max_line_bytes:
                raise StreamTooLarge(f"a line of more than {self._max_line_bytes} bytes")
        if len(lines) < 2 and not whole:
            return []
        lines[0] = b"".join(self._line)
        rest = b"" if whole else lines.pop()
        self._line, self._line_bytes = [rest], len(rest)
        return lines

    def _event(self) -> list[str]:
        """Return the event that ends here: one text, or its lines where each is an event."""
        data, self._data = self._data, []
        if len(data) < 2:
            return data
        joined = "\n".join(data)
        return [joined] if _is_json(joined) or not all(map(_is_json, data)) else data


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
