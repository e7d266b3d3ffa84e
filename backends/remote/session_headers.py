"""The headers that keep a conversation together behind a router: its key, the router's tokens."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from .affinity import sent
from .routers import RouterHeaders

REMEMBERED = 65_536
"""Conversations whose tokens are kept; beyond that those unused for longest are forgotten."""
MAX_TOKEN_CHARS = 1024


class SessionHeaders:
    """What each request shows, and what each answer hands out. On one event loop.

    Args:
        headers: of the router in front of the servers.
    """

    def __init__(self, headers: RouterHeaders) -> None:
        self._headers = headers
        self._held: OrderedDict[tuple[str, str], dict[str, str]] = OrderedDict()

    def shown(self, node: str, key: str) -> dict[str, str]:
        """Return the headers of a request of this conversation to this server."""
        told = sent(key)
        return {
            **self._headers.fixed,
            **dict.fromkeys(self._headers.key, told),
            **self._held.get((node, key), {}),
        }

    def keep(self, node: str, key: str, answered: Mapping[str, str]) -> None:
        """Take the tokens of an answer; one that is too long or no plain text is left."""
        if not self._headers.tokens:
            return
        found = {
            name: token
            for name in self._headers.tokens
            if (token := answered.get(name))
            and len(token) <= MAX_TOKEN_CHARS
            and token.isascii()
            and token.isprintable()
        }
        if found:
            self._held[node, key] = {**self._held.get((node, key), {}), **found}
        if (node, key) in self._held:
            self._held.move_to_end((node, key))
        if len(self._held) > REMEMBERED:
            self._held.popitem(last=False)
