"""The transcript of a turn, put together from a recogniser's segments."""

from __future__ import annotations


class Transcript:
    """Final segments, and behind them the hypothesis for what is being said now."""

    def __init__(self) -> None:
        self._final = ""
        self._partial = ""

    def heard(self, text: str, *, final: bool) -> str:
        """Take one segment, the whole of it so far; return the transcript of the turn."""
        if final:
            self._final, self._partial = _joined(self._final, text), ""
        else:
            self._partial = text
        return _joined(self._final, self._partial)

    def asked(self, text: str) -> None:
        """Forget what went into a question; what was said after it stays.

        Segments that the framework dropped go with it.
        """
        _, found, rest = self._final.rpartition(text.strip())
        self._final = rest.strip() if found and text.strip() else ""


def _joined(first: str, second: str) -> str:
    return f"{first} {second}".strip()
