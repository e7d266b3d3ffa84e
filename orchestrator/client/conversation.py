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

    def ended(self, answer: LiveAnswer, done: ResponseDone | None) -> None:
        """Take a turn that is over, or was lost on its way: what was said of it is kept."""
        if answer.has_results or (done is not None and done.tool_calls):
            self._messages = None
        if self._messages is None:
            return
        self._turns += 1
        told = (("user", answer.text), ("assistant", answer.said))
        self._messages += [{"role": role, "content": text} for role, text in told if text.strip()]

    def told(self, options: Mapping[str, object]) -> dict[str, object]:
        """Return the options of a session that goes on with this conversation."""
        if not self._turns:
            return dict(options)
        return {**options, "messages": self._messages}
