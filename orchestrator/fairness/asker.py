"""Who asks: set where a request comes in, read wherever something is shared or kept apart."""

from __future__ import annotations

from contextvars import ContextVar

from msgspec import Struct

SHARED_SALT = "shared"


class Asker(Struct, frozen=True):
    """Who shows an API key.

    Attributes:
        owner: what stands for the key, fit to be compared, not to be shown.
        name: of the key, for logs and metrics.
        max_sessions, max_turns: its own limits at a time; None = the server's.
        tokens_per_minute, speculated_tokens_per_minute: of prompts and answers, and of what is
            computed before it is asked for; None = any number.
    """

    owner: str
    name: str
    max_sessions: int | None = None
    max_turns: int | None = None
    tokens_per_minute: int | None = None
    speculated_tokens_per_minute: int | None = None


asker: ContextVar[Asker | None] = ContextVar("livemind_asker", default=None)
"""Of the current task; None = nobody in particular: no keys, or a program that embeds LiveMind."""


def own_salt(given: str | None) -> str | None:
    """Return the cache salt of a request: a key's prefixes are its own, unless it is ``shared``.

    What a client gives parts the caches of one key further; it reaches no other key's.
    """
    who = asker.get()
    if who is None:
        return given
    if given == SHARED_SALT:
        return None
    return who.owner[:32] if given is None else f"{who.owner[:32]}:{given}"
