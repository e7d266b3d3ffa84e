"""Who may come in: host, origin and content type of a request, then its key.

Owns what one server knows of that. Reads no body.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aiohttp import web
from msgspec import json

from ....rag.access.origins import Origins, Refusal
from ...config.keys import ApiKey, load_keys, needs_key
from ...config.server import ServerConfig
from ...errors import ErrorInfo, Unauthorized
from .keys import Keyring, check_scope
from .sockets import TICKET_S, Tickets, key_of, ticket_of

OPEN_PATHS = frozenset({"/health", "/ready"})
SOCKET_PATHS = frozenset({"/v1/live", "/v1/realtime"})
PREFLIGHT_S = 600
SHOWN_HEADERS = ", ".join(
    (
        "Location",
        "Retry-After",
        "X-LiveMind-Degraded",
        "X-LiveMind-Expert",
        "X-LiveMind-Session",
        "X-LiveMind-Session-Status",
        "X-Request-Id",
    )
)

logger = logging.getLogger(__name__)


class Door:
    """Lets requests in.

    Args:
        server: host, allowed hosts and origins, where its keys are.
        is_open: whether anybody may have a path, beside ``OPEN_PATHS``.

    Attributes:
        keys: in force.

    Raises:
        ConfigError: the keys cannot be read.
    """

    def __init__(
        self, server: ServerConfig, is_open: Callable[[str], bool] = lambda path: False
    ) -> None:
        self._is_open = is_open
        self.keys = Keyring(load_keys(server))
        self._tickets = Tickets()
        self._rules = Origins(
            server.host,
            server.allowed_hosts,
            server.allowed_origins,
            any_host=needs_key(server) and not server.allowed_hosts,
        )

    def refusal(self, request: web.Request) -> ErrorInfo | None:
        """Return why this request is not answered whoever sends it, None if it may be."""
        has_body = request.can_read_body
        found = self._rules.refusal(request.method, request.headers, has_body=has_body)
        return None if found is None else _info(found)

    def key(self, request: web.Request) -> ApiKey | None:
        """Return the key that a request shows, None where none is needed.

        Raises:
            Unauthorized: it shows none that is in force.
            Forbidden: the key may not do this.
        """
        if not self.keys or request.path in OPEN_PATHS or self._is_open(request.path):
            return None
        key = self._shown(request)
        check_scope(key, request.path)
        return key

    def knows(self, request: web.Request) -> bool:
        """Return whether a request to an open path shows a key in force, or none is needed."""
        if not self.keys:
            return True
        try:
            self.keys.bearer(request.headers.get("Authorization"))
        except Unauthorized:
            return False
        return True

    def _shown(self, request: web.Request) -> ApiKey:
        header = request.headers.get("Authorization")
        if header is None and request.path in SOCKET_PATHS:
            if (secret := key_of(request)) is not None:
                return self.keys.shown(secret)
            if (ticket := ticket_of(request)) is not None:
                owner = self._tickets.take(ticket, asyncio.get_running_loop().time())
                key = self.keys.by_owner(owner)
                if key is None:
                    raise Unauthorized("ticket: its key is not in force", code="invalid_ticket")
                return key
        return self.keys.bearer(header)

    def ticket(self, owner: str | None) -> web.Response:
        """Return a new ticket of this owner, for one web socket. Raises Overloaded."""
        ticket = self._tickets.issue(owner, asyncio.get_running_loop().time())
        body = json.encode({"ticket": ticket, "expires_in_s": TICKET_S})
        headers = {"Cache-Control": "no-store"}
        return web.Response(body=body, content_type="application/json", headers=headers)

    def preflight(self, request: web.Request) -> web.Response | None:
        """Return the answer to a browser that asks whether a page may send something, else None."""
        wanted = request.headers.get("Access-Control-Request-Method")
        if request.method != "OPTIONS" or wanted is None or "Origin" not in request.headers:
            return None
        headers = {
            "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
            "Access-Control-Allow-Headers": request.headers.get(
                "Access-Control-Request-Headers", "Authorization, Content-Type"
            ),
            "Access-Control-Max-Age": str(PREFLIGHT_S),
        }
        if request.headers.get("Access-Control-Request-Private-Network") == "true":
            headers["Access-Control-Allow-Private-Network"] = "true"
        return web.Response(status=204, headers=headers)

    async def allow_page(self, request: web.Request, response: web.StreamResponse) -> None:
        """Tell the browser that a page which may use the server may read this answer."""
        response.headers["Vary"] = "Origin"
        origin = request.headers.get("Origin")
        if origin is not None and self._rules.allows(origin, request.headers.get("Host", "")):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = SHOWN_HEADERS


def _info(refusal: Refusal) -> ErrorInfo:
    kind = "permission_error" if refusal.status == 403 else "invalid_request_error"
    return ErrorInfo(refusal.status, refusal.message, kind, None, refusal.code)
