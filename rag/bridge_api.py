"""How the bridge refuses: every error of a request as an OpenAI-shaped envelope.

Owns the texts and codes of refusals. ``wire.py`` says what a request may hold.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic import ValidationError

from .embed_worker import EmbedQueueFull
from .embedder import EmbedderError
from .wire import RetrieveRequest

MAX_BODY_BYTES = 64 * 1024

_LOG = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BridgeRefusal(Exception):
    """A request that gets an error answer; the message is fit to be shown."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    def response(self) -> web.Response:
        """Return the envelope ``{"error": {message, type, param, code}}``."""
        kind = {409: "conflict", 429: "rate_limit_error"}.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return web.json_response({"error": error}, status=self.status, headers=headers)


def parse_retrieve(body: bytes) -> RetrieveRequest:
    """Return the validated request. Raises BridgeRefusal 400 naming the first field at fault."""
    try:
        return RetrieveRequest.model_validate_json(body)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"]) or None
        match first["type"]:
            case "json_invalid":
                raise BridgeRefusal(400, "invalid_json", "the body is not valid JSON") from None
            case "extra_forbidden":
                message, code = f"unknown field {param!r}", "unknown_field"
            case "missing":
                message, code = f"field {param!r} is missing", "missing_field"
            case _:
                message, code = f"{param or 'body'}: {first['msg']}", "invalid_value"
        raise BridgeRefusal(400, code, message, param=param) from None


@web.middleware
async def errors_as_envelopes(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn everything a handler raises into an envelope; nothing internal gets into an answer."""
    try:
        return await handler(request)
    except BridgeRefusal as exc:
        return exc.response()
    except EmbedQueueFull as exc:
        return BridgeRefusal(429, "overloaded", str(exc), retry_after_s=1).response()
    except EmbedderError as exc:
        return BridgeRefusal(503, "embedder_failed", str(exc), retry_after_s=1).response()
    except web.HTTPRequestEntityTooLarge:
        limit = f"the body is larger than {MAX_BODY_BYTES} bytes"
        return BridgeRefusal(413, "payload_too_large", limit).response()
    except web.HTTPException as exc:
        code = {404: "not_found", 405: "method_not_allowed"}.get(exc.status, "http_error")
        what = f"{request.method} {request.path}: {exc.reason}"
        return BridgeRefusal(exc.status, code, what).response()
    except Exception as exc:
        # The message of an unforeseen exception may quote the query: the type has to do.
        _LOG.error("%s %s failed: %s", request.method, request.path, type(exc).__name__)
        return BridgeRefusal(500, "internal_error", "internal error").response()
