"""Which turn a transcript belongs to that comes when its turn is committed already."""

from __future__ import annotations

from collections import deque

from ..errors import InvalidRequest
from ..words import fold

LATE_TRANSCRIPT_S = 1.0
MAX_TURNS_KNOWN = 256


class CommittedTurns:
    """The turns of a session that are committed, to tell text that comes too late for them.

    Attributes:
        count: how many there were: the number of the turn that is being typed.
        late_text: the text that was passed over last, for a commit that brings none.
    """

    def __init__(self) -> None:
        self.count = 0
        self.late_text = ""
        self._ids: deque[str] = deque(maxlen=MAX_TURNS_KNOWN)
        self._last: tuple[str, float] | None = None

    def committed(self, response_id: str, text: str, now_s: float) -> None:
        """Note a commit."""
        self.count += 1
        self._ids.append(response_id)
        self._last, self.late_text = (fold(text), now_s), ""

    def new_text(self) -> None:
        """The next turn's text has begun: what comes now is its own."""
        self._last, self.late_text = None, ""

    def has(self, turn_id: str | int | None, current: str) -> bool:
        """Return whether a turn is committed; ``current``: the id of the one being typed.

        Raises:
            InvalidRequest: there is no such turn.
        """
        if turn_id is None or turn_id in (current, self.count):
            return False
        known = turn_id in self._ids if isinstance(turn_id, str) else 0 <= turn_id < self.count
        if not known:
            message = f"turn_id: no such turn; the one being typed is {self.count} or its id"
            raise InvalidRequest(message, param="turn_id", code="turn_not_found")
        return True

    def repeats(self, said: str, now_s: float, *, answering: bool) -> bool:
        """Return whether this is the last committed text once more, right after its commit.

        That is while it is being answered, or within ``LATE_TRANSCRIPT_S``.
        """
        if self._last is None:
            return False
        committed, at_s = self._last
        in_time = answering or now_s - at_s <= LATE_TRANSCRIPT_S
        return in_time and bool(committed) and fold(said) == committed
