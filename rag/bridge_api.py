"""The bridge's wire format: what a request may hold, and how an error looks.

Owns validation and the OpenAI-shaped error envelope. Knows nothing of indexes.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .base import Passage
from .embed_worker import EmbedQueueFull
from .embedder import EmbedderError

MAX_BODY_BYTES = 64 * 1024
MAX_QUERY_CHARS = 8_000
MAX_TOP_K = 50
MAX_DEADLINE_MS = 60_000.0

_LOG = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Name = Annotated[str, Field(min_length=1, max_length=128)]


class RetrieveRequest(BaseModel):
    """Body of ``POST /v1/retrieve``.

    Attributes:
        query: the text so far; at least one character that is not white space.
        min_score: passages with a lower cosine are left out.
        revision: of the query within its session; a newer one supersedes the older ones.
        partial: whether the text is still growing.
        deadline_ms: time left to the caller when it sent the request.
        request_id: repeated in the answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARS)
    session_id: Name
    revision: int = Field(ge=0, lt=2**63)
    top_k: int = Field(default=3, ge=1, le=MAX_TOP_K)
    min_score: float = Field(default=0.0, ge=-1.0, le=1.0)
    partial: bool = False
    deadline_ms: float = Field(default=1_000.0, gt=0.0, le=MAX_DEADLINE_MS)
    request_id: Name | None = None

    @field_validator("query")
    @classmethod
    def _has_a_character(cls, query: str) -> str:
        if not query.strip():
            raise ValueError("the text is empty")
        return query


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


def passage_json(passage: Passage, rank: int) -> dict[str, object]:
    """Return one result as it goes over the wire; ``rank`` counts from 1."""
    return {
        "id": passage.id,
        "source": passage.source,
        "text": passage.text,
        "score": passage.score,
        "rank": rank,
    }


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
