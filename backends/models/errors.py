"""Why a model was not imported."""

from __future__ import annotations


class ModelImportError(Exception):
    """A model cannot be imported; the message is for the user, nothing half-done is left.

    Attributes:
        message: what is wrong, and what would help.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
