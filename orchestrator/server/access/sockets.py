"""How a web socket of a browser shows a key, which cannot send an Authorization header with it.

Either the key is one of the subprotocols that it names, or it holds a ticket that its page, or the
server of that page, has asked for: good for one connection within seconds.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator

from aiohttp import web

from ...errors import Overloaded, Unauthorized

KEY_PROTOCOLS = ("livemind-key.", "openai-insecure-api-key.")
TICKET_PROTOCOL = "livemind-ticket."
TICKET_S = 60.0
MOST_TICKETS = 10_000
MOST_TICKETS_OF_A_KEY = 1_000


class Tickets:
    """Tickets that have not been used; each is good once, within ``TICKET_S`` seconds."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str | None, float]] = {}
        self._count: Counter[str | None] = Counter()

    def issue(self, owner: str | None, now_s: float) -> str:
        """Return a new ticket of this owner.

        Raises:
            Overloaded: too many wait to be used.
        """
        for old in [old for old, (_, until_s) in self._open.items() if until_s <= now_s]:
            self._drop(old)
        if len(self._open) >= MOST_TICKETS or self._count[owner] >= MOST_TICKETS_OF_A_KEY:
            message = f"{MOST_TICKETS_OF_A_KEY} tickets of a key may wait to be used, the limit"
            raise Overloaded(message, code="too_many_tickets", retry_after_s=TICKET_S)
        ticket = secrets.token_urlsafe(32)
        self._open[ticket] = (owner, now_s + TICKET_S)
        self._count[owner] += 1
        return ticket

    def take(self, ticket: str, now_s: float) -> str | None:
        """Return whose ticket this is, and make it void.

        Raises:
            Unauthorized: it is none, was used or is too old.
        """
        owner, until_s = self._open.get(ticket, (None, 0.0))
        if ticket in self._open:
            self._drop(ticket)
        if until_s <= now_s:
            message = "ticket: unknown, used or expired; each is good once"
            raise Unauthorized(message, param="ticket", code="invalid_ticket")
        return owner

    def _drop(self, ticket: str) -> None:
        owner, _ = self._open.pop(ticket)
        self._count[owner] -= 1
        if not self._count[owner]:
            del self._count[owner]


def offered(request: web.Request) -> Iterator[str]:
    """Yield the subprotocols that a client names."""
    for header in request.headers.getall("Sec-WebSocket-Protocol", ()):
        yield from filter(None, (name.strip() for name in header.split(",")))


def key_of(request: web.Request) -> str | None:
    """Return the key among the subprotocols, None if there is none."""
    for name in offered(request):
        for prefix in KEY_PROTOCOLS:
            if name.startswith(prefix):
                return name.removeprefix(prefix)
    return None


def ticket_of(request: web.Request) -> str | None:
    """Return the ticket among the subprotocols or in the query, None if there is none."""
    for name in offered(request):
        if name.startswith(TICKET_PROTOCOL):
            return name.removeprefix(TICKET_PROTOCOL)
    return request.query.get("ticket")
