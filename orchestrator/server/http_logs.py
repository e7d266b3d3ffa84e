"""The access log: one line a request, without its query."""

from __future__ import annotations

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger


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
