"""The application behind a real ASGI server, in the place of ``run_server``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import uvicorn
from aiohttp import web

from livemind.orchestrator.server.asgi.application import AsgiApplication


def run_asgi(app: web.Application, listener: socket.socket) -> AbstractAsyncContextManager[None]:
    """Serve an application by uvicorn inside a block."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[web.Application]:
        yield app

    return run_uvicorn(AsgiApplication(opened), listener)


@asynccontextmanager
async def run_uvicorn(asgi: AsgiApplication, listener: socket.socket) -> AsyncIterator[None]:
    """Serve by uvicorn inside this block."""
    config = uvicorn.Config(
        asgi,
        lifespan="on",
        ws="websockets-sansio",
        log_config=None,
        timeout_graceful_shutdown=10,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await running
