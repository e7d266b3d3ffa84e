"""What surrounds every request: request id, API key, error envelope, counting, shutdown.

The outermost middleware is the only place that turns exceptions into answers.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import traceback
from random import getrandbits

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware

from ..errors import (
    BodyTooSlow,
    ErrorInfo,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    Unavailable,
    from_exception,
)
from ..fairness.asker import Asker, asker
from .access.door import Door
from .access.keys import DOCUMENTS, asks
from .state import KEY, OWNER, REQUEST_ID, SHUTTING_DOWN, STARTED, STATE, ServerState
from .tracing.arrival import arrived_s

logger = logging.getLogger(__name__)

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
    if info.retry_after_s is not None and math.isfinite(info.retry_after_s):
        headers["Retry-After"] = str(max(1, round(info.retry_after_s)))
    if info.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.json_response(info.envelope(), status=info.status, headers=headers)


def entrance(door: Door) -> Middleware:
    """Return the outermost middleware: request id, who may enter, count, failures as envelopes."""

    @web.middleware
    async def enter(request: web.Request, handler: Handler) -> web.StreamResponse:
        state = request.app[STATE]
        given = request.headers.get("X-Request-Id", "")
        valid = REQUEST_ID_FORM.fullmatch(given)
        request[REQUEST_ID] = given if valid else f"req_{getrandbits(128):032x}"
        state.metrics.traces.enter(request.headers, request.path)
        try:
            response = await _let_in(door, request, handler)
        except web.HTTPException as exc:
            response = _http_exception(exc, request, state.limits.max_body_bytes)
        except (ConnectionError, asyncio.CancelledError):
            state.metrics.request(_route(request), request.method, 499)
            raise
        except (web.RequestPayloadError, HttpProcessingError):
            message = "the body cannot be read: it is cut or not encoded as its header says"
            response = error_response(from_exception(InvalidRequest(message, code="invalid_body")))
            response.force_close()
        except Exception as exc:
            info = error_info(exc)
            if info.status == 500:
                log_failure(f"request {request[REQUEST_ID]}", exc)
            if STARTED in request:  # an answer has begun: all that can be said is that it broke off
                state.metrics.request(_route(request), request.method, info.status)
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionResetError("the answer broke off") from exc
            response = error_response(info)
            if isinstance(exc, BodyTooSlow):
                response.force_close()
            state.metrics.refused(info.code)
        state.metrics.request(_route(request), request.method, response.status)
        if not response.prepared:
            response.headers["X-Request-Id"] = request[REQUEST_ID]
        return response

    return enter


@web.middleware
async def in_flight(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Track requests that take time; during shutdown refuse them or end them with a clear error."""
    state = request.app[STATE]
    if not asks(request.path):
        return await handler(request)
    with state.in_flight.track():
        try:
            waits = request.path != DOCUMENTS  # those go on to the bridge as they come
            if waits and request.can_read_body and not request.content.is_eof():
                await _body(request, state)
            arrived_s.set(asyncio.get_running_loop().time())
            return await handler(request)
        except asyncio.CancelledError:
            if state.in_flight.aborted():
                raise Unavailable(SHUTTING_DOWN, retry_after_s=1.0) from None
            raise


async def _body(request: web.Request, state: ServerState) -> None:
    """Wait for a body that has not come whole with its headers; handlers then find it read.

    Raises:
        BodyTooSlow: it takes longer than ``server.body_timeout_s``.
        Unavailable: the server shuts down.
    """
    reading = asyncio.ensure_future(request.read())
    stopping = asyncio.ensure_future(state.in_flight.stopping.wait())
    limit_s = state.limits.body_timeout_s
    try:
        await asyncio.wait(
            {reading, stopping}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
        )
        if reading.done():
            reading.result()
        elif stopping.done():
            raise Unavailable(SHUTTING_DOWN, retry_after_s=1.0)
        else:
            message = f"the body took longer than {limit_s:g} s (server.body_timeout_s)"
            raise BodyTooSlow(message)
    finally:
        for task in (reading, stopping):
            task.cancel()
        await asyncio.gather(reading, stopping, return_exceptions=True)


async def _let_in(door: Door, request: web.Request, handler: Handler) -> web.StreamResponse:
    refused = door.refusal(request)
    if refused is not None:
        return error_response(refused)
    preflight = door.preflight(request)
    if preflight is not None:
        return preflight
    key = door.key(request)
    if key is None:
        asker.set(None)
    else:
        request[KEY], request[OWNER] = key, key.sha256
        asker.set(
            Asker(
                key.sha256,
                key.name,
                key.max_sessions,
                key.max_turns,
                key.tokens_per_minute,
                key.speculated_tokens_per_minute,
            )
        )
    return await handler(request)


def _http_exception(
    exc: web.HTTPException, request: web.Request, max_body_bytes: int
) -> web.StreamResponse:
    match exc:
        case web.HTTPNotFound():
            message = f"no such path; there are {', '.join(_paths(request))}"
            return error_response(from_exception(NotFound(message, code="unknown_path")))
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


def _paths(request: web.Request) -> list[str]:
    """Return what is served instead, without what stands below something else."""
    every = {resource.canonical for resource in request.app.router.resources()}
    return sorted(path for path in every if "{" not in path)


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"
