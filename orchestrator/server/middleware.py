"""What surrounds every request: request id, API key, error envelope, counting, shutdown.

The outermost middleware is the only place that turns exceptions into answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import traceback
from collections.abc import Iterable, Mapping
from random import getrandbits

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import SecretStr

from ..errors import (
    ErrorInfo,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    Unauthorized,
    Unavailable,
    from_exception,
)
from .state import OWNER, REQUEST_ID, SHUTTING_DOWN, STATE

logger = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/health", "/ready"})
REQUEST_ID_FORM = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class TurnFailed(Exception):
    """A turn ended without an answer; ``info`` is what its terminal event says."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message)
        self.info = info


def error_info(exc: BaseException) -> ErrorInfo:
    """Return what a client may see of any exception."""
    return exc.info if isinstance(exc, TurnFailed) else from_exception(exc)


def log_failure(what: str, exc: BaseException) -> None:
    """Log where an unexpected exception came from; not its message, which may quote a prompt."""
    trace = "".join(traceback.format_tb(exc.__traceback__))
    logger.error("%s failed: %s\n%s", what, type(exc).__name__, trace)


def error_response(info: ErrorInfo) -> web.Response:
    """Return the envelope with its status and Retry-After."""
    headers = {}
    if info.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(info.retry_after_s)))
    if info.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.json_response(info.envelope(), status=info.status, headers=headers)


def entrance(keys: Iterable[SecretStr]) -> Middleware:
    """Return the outermost middleware: request id, API key, count, and every failure an envelope.

    Without keys everyone is let in.
    """
    encoded = (key.get_secret_value().encode() for key in keys)
    known = {key: hashlib.sha256(key).hexdigest() for key in encoded}

    @web.middleware
    async def enter(request: web.Request, handler: Handler) -> web.StreamResponse:
        state = request.app[STATE]
        given = request.headers.get("X-Request-Id", "")
        valid = REQUEST_ID_FORM.fullmatch(given)
        request[REQUEST_ID] = given if valid else f"req_{getrandbits(128):032x}"
        try:
            if known and request.path not in OPEN_PATHS:
                request[OWNER] = _check(request.headers.get("Authorization"), known)
            response = await handler(request)
        except web.HTTPException as exc:
            response = _http_exception(exc, request, state.limits.max_body_bytes)
        except (ConnectionError, asyncio.CancelledError):
            state.metrics.request(_route(request), request.method, 499)
            raise
        except Exception as exc:
            info = error_info(exc)
            if info.status == 500:
                log_failure(f"request {request[REQUEST_ID]}", exc)
            response = error_response(info)
        state.metrics.request(_route(request), request.method, response.status)
        if not response.prepared:
            response.headers["X-Request-Id"] = request[REQUEST_ID]
        return response

    return enter


@web.middleware
async def in_flight(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Track requests that take time; during shutdown refuse them or end them with a clear error."""
    state = request.app[STATE]
    if not request.path.startswith("/v1/"):
        return await handler(request)
    with state.in_flight.track():
        try:
            return await handler(request)
        except asyncio.CancelledError:
            if state.in_flight.aborted():
                raise Unavailable(SHUTTING_DOWN, retry_after_s=1.0) from None
            raise


def _check(header: str | None, known: Mapping[bytes, str]) -> str:
    """Return the owner that the header's key stands for; every known key is compared."""
    scheme, _, given = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        raise Unauthorized("Authorization: need a Bearer API key", code="missing_api_key")
    key = given.strip().encode("utf-8", "surrogateescape")
    owners = [owner for known_key, owner in known.items() if hmac.compare_digest(key, known_key)]
    if not owners:
        raise Unauthorized("Authorization: unknown API key")
    return owners[0]


def _http_exception(
    exc: web.HTTPException, request: web.Request, max_body_bytes: int
) -> web.StreamResponse:
    match exc:
        case web.HTTPNotFound():
            return error_response(from_exception(NotFound("no such path", code="unknown_path")))
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(exc.allowed_methods))
            message = f"{request.method} is not allowed here; allowed: {allowed}"
            info = from_exception(InvalidRequest(message, code="method_not_allowed"))
            response = error_response(ErrorInfo(405, info.message, info.type, None, info.code))
            response.headers["Allow"] = allowed
            return response
        case web.HTTPRequestEntityTooLarge():
            message = f"the body exceeds {max_body_bytes} bytes (server.max_body_bytes)"
            return error_response(from_exception(PayloadTooLarge(message)))
        case _:
            kind = "server_error" if exc.status >= 500 else "invalid_request_error"
            return error_response(ErrorInfo(exc.status, exc.reason, kind, None, "http_error"))


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"
