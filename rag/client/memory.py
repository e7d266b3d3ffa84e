"""What a client remembers between retrievals: texts it was sent, and how long answers take."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping

MAX_SESSIONS = 1_024
FIRST_DELAY_S = 0.03
WINDOW = 64


class KnownTexts:
    """The last answer's texts of each session, by hash, so that they need not travel again."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Mapping[str, str]] = OrderedDict()

    def of(self, session_id: str) -> Mapping[str, str]:
        """Return the session's texts by hash."""
        return self._sessions.get(session_id, {})

    def keep(self, session_id: str, texts: Mapping[str, str]) -> None:
        """Remember the texts of the newest answer instead of those before it."""
        self._sessions[session_id] = texts
        self._sessions.move_to_end(session_id)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)


class HedgeDelay:
    """How long to wait for the first bridge before the second is asked.

    The 95th percentile of the last answers, after Dean and Barroso, "The Tail at Scale" (2013):
    about one request in twenty is sent twice.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=WINDOW)

    @property
    def seconds(self) -> float:
        """The delay; 30 ms until there are enough answers."""
        if len(self._seconds) < WINDOW // 4:
            return FIRST_DELAY_S
        return sorted(self._seconds)[int(0.95 * len(self._seconds))]

    def took(self, seconds: float) -> None:
        """Note how long an answer took."""
        self._seconds.append(seconds)
