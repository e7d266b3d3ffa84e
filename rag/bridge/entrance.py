"""Who gets into the bridge: host, origin, content type, and the token that its gateway shares.

Without the token loopback clients may search and list; whoever writes, or comes from another
machine, needs it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ..access.origins import Origins, is_loopback
from ..access.token import opens, proof
from ..documents.chunking import digest
from .api import BridgeRefusal

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/v1/identity"})
MAX_CHALLENGE_CHARS = 128


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use a bridge.

    Attributes:
        host: address that it listens on.
        allowed_hosts, allowed_origins: see ``Origins``.
        token: for writing, and for other machines; None = nobody needs one.
        serves: what it answers from, told to whoever checks its identity.
    """

    host: str = "127.0.0.1"
    allowed_hosts: Collection[str] = ()
    allowed_origins: Collection[str] = ()
    token: str | None = None
    serves: str = ""


def entrance(access: Access) -> Middleware:
    """Return the middleware that refuses who may not come in."""
    rules = Origins(
        access.host,
        access.allowed_hosts,
        access.allowed_origins,
        hosts_key="--allowed-host",
        origins_key="--allowed-origin",
    )

    @web.middleware
    async def enter(request: web.Request, handler: Handler) -> web.StreamResponse:
        has_body = request.can_read_body
        refused = rules.refusal(request.method, request.headers, has_body=has_body)
        if refused is not None:
            raise BridgeRefusal(refused.status, refused.code, refused.message)
        if access.token is not None and request.path not in OPEN_PATHS:
            reads = request.method == "GET" or request.path.endswith(("/retrieve", "/search"))
            if not (reads and is_loopback(request.remote or "")) and not opens(
                access.token, request.headers.get("Authorization")
            ):
                message = "Authorization: need the bridge's token as a Bearer (see --token-file)"
                raise BridgeRefusal(401, "invalid_token", message)
        return await handler(request)

    return enter


def named(kind: str, place: object) -> str:
    """Return a name for the documents of a bridge that does not tell where they are."""
    return f"{kind}:{digest(str(place))}"


class Identity:
    """``GET /v1/identity?challenge=``: proof that this is the bridge of whoever knows the token."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def identity(self, request: web.Request) -> web.Response:
        """Return the proof for the challenge and, with it, what the bridge answers from."""
        challenge = request.query.get("challenge", "")
        if not 16 <= len(challenge) <= MAX_CHALLENGE_CHARS:
            why = f"challenge: needs 16 to {MAX_CHALLENGE_CHARS} characters"
            raise BridgeRefusal(400, "invalid_value", why, param="challenge")
        token, serves = self._access.token, self._access.serves
        shown = None if token is None else proof(token, f"{challenge}\0{serves}")
        return web.json_response({"service": "livemind-bridge", "serves": serves, "proof": shown})
