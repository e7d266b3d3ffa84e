"""What every reader of a format yields, and how it says that a file is not readable."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "code"]

_SPACE = re.compile(r"\s+")


class UnreadableFile(Exception):
    """The file cannot be read as what it claims to be; the message names file, reason and limit."""


class EmptyFile(UnreadableFile):
    """There is no text in it."""


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, list item, table row or code block, below the headings that lead to it."""

    headings: tuple[str, ...]
    text: str
    kind: Kind = "text"


def squeezed(text: str) -> str:
    """Return the text on one line, white space as one blank."""
    return _SPACE.sub(" ", text).strip()
