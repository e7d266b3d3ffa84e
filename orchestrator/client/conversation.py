"""What a session's client knows of its conversation: enough to begin it again on another server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from ..events import ResponseDone
from .answer import LiveAnswer


class SaidSoFar:
    """The turns that have ended, as the option ``messages`` has them.

    Args:
        options: of the session; messages among them stand before the first turn.
    """

    def __init__(self, options: Mapping[str, object]) -> None:
        self._messages: list[Mapping[str, object]] | None = []
        self._turns = 0
        self.updated(options)

    @property
    def is_known(self) -> bool:
        """Whether all of it can be told again; calls of tools cannot."""
        return self._messages is not None

    def updated(self, options: Mapping[str, object]) -> None:
        """Take changed options: messages among them replace the conversation."""
        if (given := options.get("messages")) is not None:
            self._messages = list(cast(Sequence[Mapping[str, object]], given))

    def ended(self, answer: LiveAnswer, done: ResponseDone) -> None:
        """Take a turn that is over; one that was broken off keeps what was said."""
        if done.tool_calls or answer.has_results:
            self._messages = None
        elif self._messages is not None and (answer.said or done.status == "completed"):
            self._turns += 1
            self._messages.append({"role": "user", "content": answer.text})
            self._messages.append({"role": "assistant", "content": answer.said})

    def told(self, options: Mapping[str, object]) -> dict[str, object]:
        """Return the options of a session that goes on with this conversation."""
        if not self._turns:
            return dict(options)
        return {**options, "messages": self._messages}
