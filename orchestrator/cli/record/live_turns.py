"""Follows one session on ``/v1/live``: its frames and events become turns. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from .turns import Json, Turn, Turns


class LiveTurns:
    """Answers are told apart by the revision of their commit.

    Args:
        turns: of this session.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._revision = 0
        self._waiting: deque[tuple[int, Turn]] = deque()
        self._answered: dict[str, Turn] = {}

    def sent(self, frame: Mapping[str, Any], at_s: float) -> None:
        """Take a frame of the client."""
        match frame:
            case {"type": "input_text.append", "text": str(text)}:
                self._count(frame)
                self._turns.typed(self._turns.text + text, at_s)
            case {"type": "input_text.replace", "text": str(text)}:
                self._count(frame)
                self._turns.typed(text, at_s)
            case {"type": "input_text.clear"}:
                self._revision += 1
                self._turns.cleared()
            case {"type": "input_text.commit"}:
                self._count(frame)
                given = frame.get("text")
                turn = self._turns.committed(given if isinstance(given, str) else None, at_s)
                self._waiting.append((self._revision, turn))

    def received(self, event: Mapping[str, Any], at_s: float) -> list[Json]:
        """Take an event of the server; return the lines of a turn that ended with it."""
        match event:
            case {"type": "response.created", "response_id": str(name), "revision": revision}:
                for asked, turn in self._waiting:
                    if asked == revision:
                        self._answered[name] = turn
            case {"type": "response.output_text.delta", "response_id": str(name)}:
                if (turn_of := self._answered.get(name)) is not None:
                    turn_of.answered(at_s)
            case {"type": "response.done", "revision": int(revision)}:
                self._answered.pop(str(event.get("response_id")), None)
                return self._ended(event, revision)
        return []

    def _count(self, frame: Mapping[str, Any]) -> None:
        given = frame.get("revision")
        self._revision = given if isinstance(given, int) else self._revision + 1

    def _ended(self, event: Mapping[str, Any], revision: int) -> list[Json]:
        while self._waiting and self._waiting[0][0] < revision:
            self._waiting.popleft()  # the server refused that commit
        if not self._waiting or self._waiting[0][0] != revision:
            return []
        turn = self._waiting.popleft()[1]
        return self._turns.lines(turn, event) if event.get("status") == "completed" else []
