"""The ASGI application: start and end by lifespan, every other scope by a connection of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from aiohttp import web

from ..app import ABORT_S, run_connections
from .http import HttpExchange
from .socket import SocketExchange
from .transport import MemoryTransport, Receive, Scope, Send

logger = logging.getLogger(__name__)

KINDS: dict[str, type[HttpExchange] | type[SocketExchange]] = {
    "http": HttpExchange,
    "websocket": SocketExchange,
}


class AsgiApplication:
    """What uvicorn, hypercorn, Ray Serve and their kind run. Belongs to one event loop.

    A client that disconnects cancels its handler, and the call returns when that has ended. The
    server must run the lifespan; where it ends, answers in progress get
    ``server.drain_timeout_s``.

    Args:
        opened: makes what surrounds the life of the aiohttp application; entered at
            ``lifespan.startup``, left at ``lifespan.shutdown``.
    """

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[web.Application]]) -> None:
        self._opened = opened
        self._server: web.Server | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scope.

        Raises:
            RuntimeError: before the startup of the lifespan.
            ValueError: a scope of a kind that ASGI 3 has not.
            ConnectionResetError: an answer broke off after its head was sent.
        """
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if (exchange := KINDS.get(scope["type"])) is None:
            raise ValueError(f"an ASGI scope of type {scope['type']!r} is not supported")
        if self._server is None:
            raise RuntimeError("LiveMind has not started: the ASGI server must run the lifespan")
        protocol = self._server()
        transport = MemoryTransport(
            protocol,
            {
                "peername": tuple(scope.get("client") or ("", 0)),
                "sockname": tuple(scope.get("server") or ("", 0)),
                "sslcontext": scope.get("scheme") in ("https", "wss") or None,
            },
        )
        try:
            await exchange(transport, scope, receive, send).run()
        finally:
            transport.lose()
            await protocol.shutdown(ABORT_S)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            try:
                app = await stack.enter_async_context(self._opened())
                self._server = await stack.enter_async_context(run_connections(app))
            except Exception as exc:
                logger.error("LiveMind cannot start: %s", exc)
                await send({"type": "lifespan.startup.failed", "message": str(exc)})
                return
            try:
                await send({"type": "lifespan.startup.complete"})
                await receive()
            finally:
                self._server = None
        await send({"type": "lifespan.shutdown.complete"})
