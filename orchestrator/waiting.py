"""What a session was told while a turn was being answered, in order, for when that is over."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ..backends.base import GenerationParams, Image, Message
from .errors import ErrorInfo, Overloaded
from .options import SessionOptions

MAX_WAITING_COMMITS = 16


@dataclass(slots=True)
class Commit:
    """A committed turn.

    Attributes:
        text: final.
        params: of this turn, None = the session's.
        item_id: of the proposed item that asks, None = the text is an item of its own.
        follow: what stands behind the text in the same turn.
        arrived_s: when it came in, by the event loop's clock.
        called_off: it was cancelled before it began, for this ``error`` if there is one.
    """

    response_id: str
    text: str
    revision: int
    params: GenerationParams | None
    images: tuple[Image, ...]
    arrived_s: float
    item_id: str | None = None
    follow: tuple[Message, ...] = ()
    called_off: bool = False
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """Options, and perhaps a whole conversation, from the next turn on."""

    options: SessionOptions
    messages: tuple[Message, ...] | None


class Waiting:
    """Commits and updates, first in, first out, and the newest text that was typed meanwhile."""

    def __init__(self) -> None:
        self.text: str | None = None
        self._queue: deque[Commit | Update] = deque()

    def put(self, waiting: Commit | Update) -> None:
        """Append; text typed before a commit is part of it, and two updates in a row are one."""
        if isinstance(waiting, Commit):
            self.text = None
        elif self._queue and isinstance(before := self._queue[-1], Update):
            self._queue.pop()
            messages = before.messages if waiting.messages is None else waiting.messages
            waiting = Update(waiting.options, messages)
        self._queue.append(waiting)

    def take(self) -> Commit | Update | None:
        """Return the first, None when nothing waits."""
        return self._queue.popleft() if self._queue else None

    def take_text(self) -> str | None:
        """Return the text that was typed, None if none was."""
        text, self.text = self.text, None
        return text

    @property
    def next_response_id(self) -> str | None:
        """The id of the first commit, None when none waits."""
        return next((one.response_id for one in self._commits()), None)

    @property
    def has_commit(self) -> bool:
        """Whether a turn waits to be answered."""
        return self.next_response_id is not None

    def call_off(self, response_id: str | None, error: ErrorInfo | None) -> None:
        """Cancel the commit of this id before it begins; None = all."""
        for one in self._commits():
            if response_id in (None, one.response_id):
                one.called_off, one.error = True, error

    def refuse_too_many(self) -> None:
        """Refuse another commit where as many as may wait do.

        Raises:
            Overloaded: with the limit.
        """
        if len(self._commits()) >= MAX_WAITING_COMMITS:
            message = f"{MAX_WAITING_COMMITS} turns of this session wait for an answer, the limit"
            raise Overloaded(message, code="too_many_turns", retry_after_s=1.0)

    def _commits(self) -> list[Commit]:
        return [one for one in self._queue if isinstance(one, Commit)]
