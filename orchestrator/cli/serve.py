"""``livemind serve``: the engine, the bridge when it is missing, and the server, until a signal."""

from __future__ import annotations

import argparse
import asyncio
import errno
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ..config.settings import Settings, load_settings
from . import event_loop
from .errors import CommandError
from .logs import configure_logs
from .progress import StartProgress, ready_lines

if TYPE_CHECKING:
    from ...rag.base import Embedder
    from ..live_mind import LiveMind

logger = logging.getLogger(__name__)


def serve(options: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; return 0 after a clean stop."""
    configure_logs(options.log_level, options.log_format)
    settings = with_overrides(
        load_settings(options.config), options.host, options.port, options.experts_log
    )
    console = Console(soft_wrap=True, highlight=False)
    with listen(settings.server.host, settings.server.port) as listener:
        if not settings.server.api_keys and not _is_loopback(settings.server.host):
            console.print(
                f"[yellow]warning:[/] {settings.server.host} can be reached from other machines "
                "and no server.api_keys are set: anyone there can use this server"
            )
        access_log = options.log_level in ("debug", "info")
        event_loop.run(_until_signal(settings, listener, console, access_log=access_log))
    return 0


def with_overrides(
    settings: Settings, host: str | None, port: int | None, experts_log: Path | None
) -> Settings:
    """Return the settings with what the command line says differently."""
    server = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    update: dict[str, object] = {"server": settings.server.model_copy(update=server)}
    if experts_log is not None:
        folder = experts_log.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        update["experts"] = tuple(
            expert.model_copy(update={"engine_log": folder / f"{expert.expert_id}.log"})
            if expert.kind == "vllm"
            else expert
            for expert in settings.experts
        )
    return settings.model_copy(update=update)


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket, before anything slow begins; clients are refused until it listens.

    Raises:
        CommandError: the address is in use, not of this machine, or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as exc:
        raise CommandError(f"server.host {host}: {exc.strerror}", 2) from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as exc:
        listener.close()
        raise _not_free(exc, host, port) from None
    return listener


def _not_free(exc: OSError, host: str, port: int) -> CommandError:
    if exc.errno == errno.EADDRINUSE:
        return CommandError(f"port {port} of {host} is in use; stop what runs there or give --port")
    return CommandError(f"cannot listen on {host} port {port}: {exc.strerror}")


@asynccontextmanager
async def missing_bridge(
    mind: LiveMind, embedder: Embedder | None, documents: Callable[[], Embedder] | None = None
) -> AsyncIterator[str | None]:
    """Run a bridge inside this block if the configuration wants a local one and none answers.

    Args:
        mind: its settings say which bridge.
        embedder: shared with the router; None = there is no bridge without one.
        documents: returns another such encoder, for documents; see ``data_library``.

    Yields:
        Its URL, or None when it is not needed.
    """
    rag, worker = mind.settings.rag, mind.embed_worker
    if not rag.enabled or worker is None or embedder is None or not await _is_free(rag.bridge_url):
        yield None
        return
    from ...rag.bridge.retrieve import BridgeSettings
    from ...rag.bridge.server import BridgeError, data_library, folder_library, serve_bridge
    from ...rag.documents.corpus import CorpusError
    from ...rag.store.base import StoreError
    from .config_and_zoo import HANDBOOK

    host, port = _local_address(rag.bridge_url) or ("127.0.0.1", 0)
    try:
        settings = BridgeSettings(writable=rag.data is not None)
        kept = (
            folder_library(rag.corpus or HANDBOOK, embedder)
            if rag.data is None
            else data_library(rag.data, embedder, documents=documents)
        )
        async with (
            kept as library,
            serve_bridge(library, worker, host=host, port=port, settings=settings) as url,
        ):
            yield url
    except (BridgeError, CorpusError, StoreError) as exc:
        raise CommandError(f"the bridge cannot start: {exc}") from None


async def _until_signal(
    settings: Settings, listener: socket.socket, console: Console, *, access_log: bool
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    work = asyncio.create_task(_serve(settings, listener, console, access_log=access_log))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            limit_s = settings.server.drain_timeout_s
            console.print(f"stopping: answers in progress get {limit_s:g} s; again = at once")
            work.cancel()
        with suppress(asyncio.CancelledError):
            await work
    finally:
        stopping.cancel()


async def _serve(
    settings: Settings, listener: socket.socket, console: Console, *, access_log: bool
) -> None:
    from ...rag.encoder.embedder import MiniLMEmbedder
    from ..live_mind import LiveMind
    from ..server.app import create_app, run_server

    embedders: list[Embedder] = []

    def embedder() -> Embedder:
        embedders.append(MiniLMEmbedder())
        return embedders[0]

    async with AsyncExitStack() as stack:
        with StartProgress(console) as progress:
            mind = LiveMind(settings, embedder=embedder, on_expert=progress.changed)
            await stack.enter_async_context(mind)
            shared = embedders[0] if embedders else None
            started = missing_bridge(mind, shared, MiniLMEmbedder)
            bridge = await stack.enter_async_context(started)
        host, port = settings.server.host, listener.getsockname()[1]
        server = run_server(create_app(mind), listener, access_log=access_log)
        try:
            await stack.enter_async_context(server)
        except OSError as exc:
            raise _not_free(exc, host, port) from None
        for line in ready_lines(mind, host, port, bridge):
            console.print(line)
        gc.collect()
        gc.freeze()  # what was loaded until here stays: full collections need not look at it
        await asyncio.Event().wait()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _local_address(url: str) -> tuple[str, int] | None:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None or not _is_loopback(parts.hostname):
        return None
    return parts.hostname, parts.port or 80


async def _is_free(url: str) -> bool:
    """Tell whether the URL is of this machine and nothing answers there."""
    address = _local_address(url)
    if address is None:
        return False
    try:
        async with asyncio.timeout(2.0):
            _, writer = await asyncio.open_connection(*address)
    except OSError:
        return True
    writer.close()
    return False
