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
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from ...rag.access.origins import is_loopback
from ...rag.access.token import TokenError, shared_token
from ..config.keys import needs_key
from ..config.settings import Settings, load_settings
from ..errors import ConfigError
from ..routing.encoders import encoder, installed
from ..server.tracing.otlp import check_installed
from . import event_loop
from .entry import DEFAULT_CONFIG
from .errors import CommandError
from .logs import configure_logs
from .models import bring_encoder, bring_packages
from .progress import StartProgress, ready_lines

if TYPE_CHECKING:
    from ...backends.pool.state import ExpertState
    from ...rag.base import Embedder
    from ...rag.encoder.kinds import EncoderKind
    from ..config.sections import RagConfig
    from ..live_mind import LiveMind
    from ..server.state import ServerState

logger = logging.getLogger(__name__)

TINY = DEFAULT_CONFIG.with_name("tiny.json")
"""Served where the model of the default configuration cannot be had."""


def serve(options: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; return 0 after a clean stop."""
    try:
        configure_logs(options.log_level, options.log_format, options.log_file)
    except OSError as exc:
        raise CommandError(f"--log-file: {options.log_file}: {exc.strerror}", 2) from None
    overrides = (options.host, options.port, options.experts_log)
    settings = with_overrides(load_settings(options.config), *overrides)
    check_installed(settings.telemetry)
    console = Console(soft_wrap=True, highlight=False)
    with listen(settings.server.host, settings.server.port) as listener:
        try:
            bring_packages(settings, console)
        except CommandError as exc:
            if options.config.read_bytes() != DEFAULT_CONFIG.read_bytes():
                raise
            console.print(
                f"[yellow]warning:[/] {escape(str(exc))}\n"
                "serving the tiny experts of configs/tiny.json instead, which know nothing but the "
                "sample handbook; the next start tries again"
            )
            settings = with_overrides(load_settings(TINY), *overrides)
        settings = bring_encoder(settings, console)
        if not needs_key(settings.server) and not is_loopback(settings.server.host):
            console.print(
                f"[yellow]warning:[/] {settings.server.host} can be reached from other machines "
                "and no keys are set (server.api_keys, server.api_keys_file, LIVEMIND_API_KEYS): "
                "anyone there can use this server"
            )
        access_log = options.log_level in ("debug", "info")
        event_loop.run(
            _until_signal(settings, listener, console, access_log=access_log, config=options.config)
        )
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
    mind: LiveMind, embedder: Embedder | None, kind: EncoderKind | None = None
) -> AsyncIterator[str | None]:
    """Run a bridge inside this block if the configuration wants a local one and none answers.

    One that answers is used if it proves to be of this user and has the documents that are wanted.

    Args:
        mind: its settings say which bridge.
        embedder: shared with the router; None = there is no bridge without one.
        kind: encoder of the corpus and of new collections; None = ``embedder``.

    Yields:
        Its URL, or None when it is not needed.

    Raises:
        CommandError: it cannot start, or something else listens where it should.
    """
    rag, worker = mind.settings.rag, mind.embed_worker
    address = _local_address(rag.bridge_url)
    if not rag.enabled or worker is None or embedder is None or address is None:
        yield None
        return
    from ...rag.bridge.entrance import Access, named
    from .config_and_zoo import HANDBOOK

    wanted = rag.corpus or HANDBOOK if rag.data is None else rag.data
    serves = named("corpus" if rag.data is None else "data", wanted.resolve())
    try:
        token = shared_token(rag.bridge_token_file)
        assert token is not None
    except TokenError as exc:
        raise CommandError(f"the bridge's token: {exc}") from None
    if await _answers(rag, token, serves):
        yield None
        return
    from ...rag.bridge.retrieve import BridgeSettings
    from ...rag.bridge.server import BridgeError, data_library, folder_library, serve_bridge
    from ...rag.documents.corpus import CorpusError
    from ...rag.encoder.embedder import EmbedderError
    from ...rag.encoder.worker import EmbedWorker
    from ...rag.store.base import StoreError

    host, port = address
    try:
        settings = BridgeSettings(writable=True)
        access = Access(host, token=token, serves=f"serve {serves}")
        served = partial(serve_bridge, host=host, port=port, settings=settings, access=access)
        async with AsyncExitStack() as stack:
            documents = None if kind is None else kind.passages
            if kind is not None and kind.name != worker.name:
                embedder = await asyncio.to_thread(kind.questions)
                worker = EmbedWorker(embedder)
                stack.push_async_callback(worker.aclose)
            if rag.data is None:
                passages = None
                if kind is not None and not kind.is_one:
                    passages = await asyncio.to_thread(kind.passages)
                kept = folder_library(wanted, embedder, documents, passages)
            else:
                others = installed()
                kept = data_library(rag.data, embedder, documents=documents, others=others)
            library = await stack.enter_async_context(kept)
            yield await stack.enter_async_context(served(library, worker))
    except (BridgeError, CorpusError, EmbedderError, StoreError) as exc:
        raise CommandError(f"the bridge cannot start: {exc}") from None


async def _until_signal(
    settings: Settings,
    listener: socket.socket,
    console: Console,
    *,
    access_log: bool,
    config: Path | None = None,
) -> None:
    stop, leave, reload = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    follow = partial(_follow, leave, reload, config)
    work = asyncio.create_task(_serve(settings, listener, console, follow, access_log=access_log))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done() and (lame_s := settings.server.lame_duck_s):
            console.print(f"leaving: /ready says 503 for {lame_s:g} s first; again = at once")
            leave.set()
            await asyncio.wait({work}, timeout=lame_s)
        if not work.done():
            limit_s = settings.server.drain_timeout_s
            console.print(f"stopping: answers in progress get {limit_s:g} s; again = at once")
            work.cancel()
        with suppress(asyncio.CancelledError):
            await work
    finally:
        stopping.cancel()


@asynccontextmanager
async def engine(
    settings: Settings, on_expert: Callable[[ExpertState], None] = lambda state: None
) -> AsyncIterator[tuple[LiveMind, str | None]]:
    """Run experts, and a bridge where one is missing, inside this block.

    Args:
        settings: their packages and encoder are here.
        on_expert: called at every change of an expert's state.

    Yields:
        The engine, and the URL of the bridge that was started, None if none was.

    Raises:
        CommandError, LiveMindError: either cannot start.
    """
    from ..live_mind import LiveMind

    embedders: list[Embedder] = []

    def embedder() -> Embedder:
        embedders.append(encoder(settings.router.embedder).questions())
        return embedders[0]

    async with LiveMind(settings, embedder=embedder, on_expert=on_expert) as mind:
        shared = embedders[0] if embedders else None
        async with missing_bridge(mind, shared, encoder(settings.rag.encoder)) as bridge:
            yield mind, bridge


async def _serve(
    settings: Settings,
    listener: socket.socket,
    console: Console,
    follow: Callable[[ServerState], Coroutine[None, None, None]],
    *,
    access_log: bool,
) -> None:
    from ..server.app import create_app, run_server
    from ..server.state import STATE

    async with AsyncExitStack() as stack:
        with StartProgress(console) as progress:
            started = engine(settings, progress.changed)
            mind, bridge = await stack.enter_async_context(started)
        host, port = settings.server.host, listener.getsockname()[1]
        app = create_app(mind)
        server = run_server(app, listener, access_log=access_log)
        try:
            await stack.enter_async_context(server)
        except OSError as exc:
            raise _not_free(exc, host, port) from None
        for line in ready_lines(mind, host, port, bridge):
            console.print(line)
        gc.collect()
        gc.freeze()  # what was loaded until here stays: full collections need not look at it
        await follow(app[STATE])


async def _follow(
    leave: asyncio.Event, reload: asyncio.Event, config: Path | None, state: ServerState
) -> None:
    """Do what signals ask for; never returns."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_leave_when(leave, state))
        group.create_task(_reload_keys(reload, config, state))


async def _leave_when(leave: asyncio.Event, state: ServerState) -> None:
    await leave.wait()
    state.in_flight.leave(state.limits.lame_duck_s)


async def _reload_keys(reload: asyncio.Event, config: Path | None, state: ServerState) -> None:
    """Read the API keys again whenever that is asked for; never returns."""
    while True:
        await reload.wait()
        reload.clear()
        try:
            server = None if config is None else load_settings(config).server
        except ConfigError as exc:
            logger.error("the API keys stay as they are: %s", exc)
            continue
        await state.reload_keys(server)


def _local_address(url: str) -> tuple[str, int] | None:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None or not is_loopback(parts.hostname):
        return None
    return parts.hostname, parts.port or 80


async def _answers(rag: RagConfig, token: str, serves: str) -> bool:
    """Return whether a bridge to be used answers already.

    Raises:
        CommandError: what answers there does not prove to be one, or has other documents.
    """
    import httpx

    from ...rag.client.identity import identify

    try:
        told = await identify(rag.bridge_url, token)
    except httpx.ConnectError:
        return False
    if told is None:
        raise CommandError(
            f"{rag.bridge_url} (rag.bridge_url): what listens there does not prove to be a bridge "
            "of this user; stop it, give another port, or share its token (rag.bridge_token_file)"
        )
    starter, _, documents = told.partition(" ")
    any_will_do = starter == "bridge" and rag.corpus is None and rag.data is None
    if documents != serves and not any_will_do:
        raise CommandError(
            f"{rag.bridge_url} (rag.bridge_url): another bridge answers there, from other "
            "documents; give another port"
        )
    return True
