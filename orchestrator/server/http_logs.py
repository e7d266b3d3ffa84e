"""What is logged of HTTP: requests without their queries, and nonsense in one line."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError


class AccessLogger(AbstractAccessLogger):
    """One line for each request; a query, which may hold a ticket or a text, is left out."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Log a request that was answered in ``time`` seconds."""
        self.logger.info(
            "%s %s %s %d %d B %.1f ms",
            request.remote,
            request.method,
            request.path,
            response.status,
            response.body_length,
            time * 1000,
        )


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


def server_logger() -> logging.Logger:
    """Return the logger of the HTTP server."""
    logger = logging.getLogger("livemind.http")
    if not any(isinstance(found, OneLine) for found in logger.filters):
        logger.addFilter(OneLine())
    return logger
