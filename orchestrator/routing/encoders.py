"""Which sentence encoders this installation has: the one of its packages, and imported ones."""

from __future__ import annotations

from ...backends.models.known import MULTILINGUAL_ENCODER
from ...rag.encoder.kinds import MINILM, EncoderKind, multilingual

NAMES = (MINILM.name, MULTILINGUAL_ENCODER.name)


def installed() -> list[EncoderKind]:
    """Return those whose files are here; none of them is loaded."""
    return [kind for kind in map(encoder, NAMES) if kind is MINILM or is_imported(kind.name)]


def encoder(name: str) -> EncoderKind:
    """Return an encoder by name, here or not. Raises KeyError for one that is not known."""
    known = {
        MINILM.name: MINILM,
        MULTILINGUAL_ENCODER.name: multilingual(MULTILINGUAL_ENCODER.path),
    }
    return known[name]


def is_imported(name: str) -> bool:
    """Return whether a known encoder's files are here."""
    return name == MINILM.name or MULTILINGUAL_ENCODER.path.is_file()
