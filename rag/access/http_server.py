"""What the gateway's and the bridge's HTTP servers do with what is no HTTP.

It reaches no handler and no middleware, so the protocol itself answers it: with the envelope of the
service, and one line in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

Envelope = Callable[[int, str, str], web.Response]
"""Status, code, message → the answer."""


class HttpRunner(web.AppRunner):
    """An ``AppRunner`` whose answers to what is no HTTP are ``envelope``'s.

    The other arguments are those of ``AppRunner``; ``name`` is that of its logger.
    """

    __slots__ = ("_envelope",)

    def __init__(
        self, app: web.Application, *, envelope: Envelope, name: str, **kwargs: Any
    ) -> None:
        super().__init__(app, logger=_logger(name), **kwargs)
        self._envelope = envelope

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(self._envelope, made)


class _Server(web.Server):
    def __init__(self, envelope: Envelope, made: web.Server) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )
        self._envelope = envelope

    def __call__(self) -> web.RequestHandler:
        return _Handler(self._envelope, self, loop=self._loop, **self._kwargs)


class _Handler(web.RequestHandler):
    __slots__ = ("_envelope",)

    def __init__(self, envelope: Envelope, server: web.Server, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._envelope = envelope

    def log_exception(self, *args: Any, **given: Any) -> None:
        """Log what went wrong, unless it is the rest of a body that cannot be read."""
        if not isinstance(given.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **given)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Log and answer what could not be read, or a fault of the server's own."""
        super().handle_error(request, status, exc, message)
        if isinstance(exc, ContentEncodingError):
            status, code = 415, "unsupported_content_encoding"
            told = "Content-Encoding: need gzip, deflate or none"
        elif status < 500:
            code, told = "invalid_http", "the request cannot be read: it is no valid HTTP"
        else:
            code, told = "internal_error", "internal error"
        response = self._envelope(status, code, told)
        response.force_close()
        return response


class OneLine(logging.Filter):
    """Tells what is no HTTP in one line instead of a stack trace."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten such a record; let all pass."""
        found = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(found, HttpProcessingError):
            record.msg, record.args = "a client sent what is no HTTP: %s", (type(found).__name__,)
            record.exc_info = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


def _logger(name: str) -> logging.Logger:
    logger = logging.getLogger(name)
    if not any(isinstance(found, OneLine) for found in logger.filters):
        logger.addFilter(OneLine())
    return logger
