"""LiveMind as an ASGI application: what `livemind serve` runs, on somebody else's sockets."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from rich.console import Console

from ..config.settings import Settings, load_settings
from ..server.app import create_app
from ..server.asgi.application import AsgiApplication
from ..server.tracing.otlp import check_installed
from .entry import DEFAULT_CONFIG
from .models import bring_encoder, bring_packages
from .serve import engine

CONFIG_VARIABLE = "LIVEMIND_CONFIG"


def create(source: str | Path | Settings | None = None) -> AsgiApplication:
    """Return the application; its models are brought here if they are not yet.

    `uvicorn --factory livemind.asgi:create` serves it. Experts and bridge start with the lifespan
    and end with it. Where it listens is the ASGI server's business: of ``server.host`` only which
    Host headers are answered is in force, of ``server.port`` nothing.

    Args:
        source: a configuration or its file; None = the file that LIVEMIND_CONFIG names, else the
            default one.

    Raises:
        ConfigError: the configuration is wrong.
        CommandError: a model cannot be had.
    """
    given = os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG if source is None else source
    settings = given if isinstance(given, Settings) else load_settings(given)
    check_installed(settings.telemetry)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    bring_packages(settings, console)
    settings = bring_encoder(settings, console)

    @asynccontextmanager
    async def opened() -> AsyncIterator[web.Application]:
        async with engine(settings) as (mind, _):
            yield create_app(mind)

    return AsgiApplication(opened)
