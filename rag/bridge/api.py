"""How the bridge refuses: every error of a request as an OpenAI-shaped envelope.

Owns the texts and codes of refusals. ``wire.py`` says what a request may hold.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, ValidationError

from ..documents.blocks import UnreadableFile
from ..encoder.embedder import EmbedderError
from ..encoder.worker import EmbedQueueFull
from ..search.library import UnknownCollection
from ..store.base import StoreError, StoreReadOnly, StoreUnavailable, UnknownFilterKey

MAX_BODY_BYTES = 64 * 1024
MAX_UPSERT_BYTES = 48 * 1024 * 1024
BODY_GRACE_S = 5.0
MIN_BODY_BYTES_PER_S = 65_536

_LOG = logging.getLogger(__name__)

Model = TypeVar("Model", bound=BaseModel)
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
        kind = {401: "authentication_error", 409: "conflict", 429: "rate_limit_error"}.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return web.json_response({"error": error}, status=self.status, headers=headers)


def parse(model: type[Model], body: bytes) -> Model:
    """Return the validated body. Raises BridgeRefusal 400 naming the first field at fault."""
    try:
        return model.model_validate_json(body)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False)[0]
        where = first["loc"]
        if where[:1] in (("filter",), ("filters",)):
            where = where[:1]  # what follows names the alternatives of a union
        param = ".".join(str(part) for part in where) or None
        match first["type"]:
            case "json_invalid":
                raise BridgeRefusal(400, "invalid_json", "the body is not valid JSON") from None
            case "extra_forbidden":
                message, code = f"unknown field {param!r}", "unknown_field"
            case "missing":
                message, code = f"field {param!r} is missing", "missing_field"
            case _:
                given = first["input"]  # texts are not repeated
                got = f"got {given}, " if isinstance(given, int | float) else ""
                told = first["msg"].removeprefix("Value error, ")
                told = told[:1].lower() + told[1:]
                message, code = f"{param or 'body'}: {got}{told}", "invalid_value"
        raise BridgeRefusal(400, code, message, param=param) from None


async def read_body(request: web.Request, limit: int) -> bytes:
    """Return the body.

    Raises:
        BridgeRefusal: 413 as soon as it is known to be larger, unpacked; 408 when it comes more
            slowly than ``MIN_BODY_BYTES_PER_S`` after ``BODY_GRACE_S`` seconds.
    """
    too_large = BridgeRefusal(413, "payload_too_large", f"the body is larger than {limit} bytes")
    if (request.content_length or 0) > limit:
        raise too_large
    body = bytearray()
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while True:
        by_s = began_s + BODY_GRACE_S + len(body) / MIN_BODY_BYTES_PER_S
        try:
            async with asyncio.timeout_at(by_s):
                part = await request.content.readany()
        except TimeoutError:
            slow = f"{len(body)} bytes of the body in {loop.time() - began_s:.0f} s are too few"
            raise BridgeRefusal(408, "body_too_slow", slow) from None
        if not part:
            return bytes(body)
        body += part
        if len(body) > limit:
            raise too_large


@web.middleware
async def errors_as_envelopes(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn everything a handler raises into an envelope; nothing internal gets into an answer."""
    try:
        return await handler(request)
    except BridgeRefusal as exc:
        return exc.response()
    except UnknownCollection as exc:
        return BridgeRefusal(404, "unknown_collection", str(exc), param="collection").response()
    except UnknownFilterKey as exc:
        return BridgeRefusal(400, "unknown_filter_key", str(exc), param="filter").response()
    except UnreadableFile as exc:
        return BridgeRefusal(422, "unreadable_document", str(exc), param="documents").response()
    except StoreUnavailable as exc:
        return BridgeRefusal(503, "store_unavailable", str(exc), retry_after_s=1).response()
    except StoreReadOnly as exc:
        return BridgeRefusal(403, "read_only", str(exc)).response()
    except StoreError as exc:
        return BridgeRefusal(400, "store_refused", str(exc)).response()
    except EmbedQueueFull as exc:
        return BridgeRefusal(429, "overloaded", str(exc), retry_after_s=1).response()
    except EmbedderError as exc:
        return BridgeRefusal(503, "embedder_failed", str(exc), retry_after_s=1).response()
    except web.HTTPRequestEntityTooLarge:
        limit = f"the body is larger than {MAX_BODY_BYTES} bytes"
        return BridgeRefusal(413, "payload_too_large", limit).response()
    except (web.RequestPayloadError, HttpProcessingError):
        cut = "the body cannot be read: it is cut or not encoded as its header says"
        response = BridgeRefusal(400, "invalid_body", cut).response()
        response.force_close()
        return response
    except web.HTTPException as exc:
        code = {404: "not_found", 405: "method_not_allowed"}.get(exc.status, "http_error")
        what = f"{request.method} {request.path}: {exc.reason}"
        return BridgeRefusal(exc.status, code, what).response()
    except Exception as exc:
        # The message of an unforeseen exception may quote the query: the type has to do.
        _LOG.error("%s %s failed: %s", request.method, request.path, type(exc).__name__)
        return BridgeRefusal(500, "internal_error", "internal error").response()
