"""How a command says that it cannot go on."""

from __future__ import annotations


class CommandError(Exception):
    """A command cannot go on; the message is one line for the user.

    Attributes:
        exit_code: 2 = wrong usage or configuration, 1 = anything else.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
