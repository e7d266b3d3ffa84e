"""Follows one session on ``/v1/realtime``: items and partial text become turns. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from .turns import Json, Turn, Turns


class RealtimeTurns:
    """A user's item is input like typed text; ``response.create`` asks it, as the server has it.

    Answers come in the order in which they were asked for; what the server refuses is told by an
    ``error`` event.

    Args:
        turns: of this session.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._item: str | None = None  # the user's item at the end that was not asked yet
        self._asked: deque[tuple[object, Turn]] = deque()  # with the event_id of its frame
        self._answered: dict[str, Turn] = {}

    def sent(self, frame: Mapping[str, Any], at_s: float) -> None:
        """Take a frame of the client."""
        match frame:
            case {"type": "input_text.append", "text": str(text)}:
                before = "" if self._turns.text == self._item else self._turns.text
                self._turns.typed(before + text, at_s)
            case {"type": "input_text.replace", "text": str(text)}:
                self._turns.typed(text, at_s)
            case {"type": "input_text.clear"}:
                self._turns.cleared()
            case {"type": "input_text.commit"}:
                given = frame.get("text")
                self._ask(frame, given if isinstance(given, str) else None, at_s)
            case {
                "type": "conversation.item.create",
                "item": {"role": "user", "content": [*parts]},
            }:
                self._said(parts, at_s)
            case {"type": "response.create"}:
                self._respond(frame, at_s)

    def received(self, event: Mapping[str, Any], at_s: float) -> list[Json]:
        """Take an event of the server; return the lines of a turn that ended with it."""
        match event:
            case {"type": "error", "error": {"event_id": of}}:
                self._refused(of)
            case {"type": "response.created", "response": {"id": str(name)}} if self._asked:
                self._answered[name] = self._asked.popleft()[1]
            case {"type": "response.output_text.delta", "response_id": str(name)}:
                if (turn := self._answered.get(name)) is not None:
                    turn.answered(at_s)
            case {"type": "response.done", "response": {"id": str(name), "status": status} as told}:
                turn = self._answered.pop(name, None)
                if turn is not None and status in ("completed", "incomplete"):
                    return self._turns.lines(turn, told.get("livemind") or {})
        return []

    def _said(self, parts: list[object], at_s: float) -> None:
        texts = [str(part.get("text", "")) for part in parts if isinstance(part, dict)]
        self._item = "\n".join(texts)
        if self._turns.text.rstrip() != self._item.rstrip():
            self._turns.typed(self._item, at_s)

    def _respond(self, frame: Mapping[str, Any], at_s: float) -> None:
        typed, item = self._turns.text, self._item
        self._ask(frame, item, at_s)
        if item is not None and typed.rstrip() != item.rstrip():  # typed behind the item
            self._turns.typed(typed, at_s)

    def _ask(self, frame: Mapping[str, Any], text: str | None, at_s: float) -> None:
        self._asked.append((frame.get("event_id"), self._turns.committed(text, at_s)))
        self._item = None

    def _refused(self, event_id: object) -> None:
        """Forget what was asked by this frame; without a name, what was asked last."""
        if not self._asked:
            return
        place = next((n for n, (of, _) in enumerate(self._asked) if of == event_id), None)
        if place is not None:
            del self._asked[place]
        elif event_id is None:
            self._asked.pop()
