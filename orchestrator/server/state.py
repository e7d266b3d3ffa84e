"""What the handlers of one application share, under one typed key."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from ..config.keys import ApiKey, load_keys
from ..config.server import ServerConfig
from ..errors import ConfigError, Unauthorized, Unavailable
from ..images.door import ImageDoor
from .access.door import Door
from .busy_polling import BusyPolling
from .live.registry import SessionRegistry
from .metrics import Metrics
from .openai.responses.store import ResponseStore

if TYPE_CHECKING:
    from ..live_mind import LiveMind

logger = logging.getLogger(__name__)

OWNER = web.RequestKey("livemind_owner", str)
KEY = web.RequestKey("livemind_key", ApiKey)
STARTED = web.RequestKey("livemind_started", web.StreamResponse)
REQUEST_ID = web.RequestKey("livemind_request_id", str)
SHUTTING_DOWN = "the server is shutting down"


class InFlight:
    """The requests being answered, so that a shutdown can wait for them and then end them.

    ``leaving`` comes before ``stopping``: see ``server.lame_duck_s``.

    Args:
        busy_polling: the event loop does not sleep while there are any.
    """

    def __init__(self, *, busy_polling: bool = False) -> None:
        self.stopping = asyncio.Event()
        self.leaving = asyncio.Event()
        self.leaves_in_s = 0.0
        self.polling = BusyPolling(lambda: bool(self._tasks)) if busy_polling else None
        self._tasks: set[asyncio.Task[object]] = set()
        self._aborted: set[asyncio.Task[object]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    @contextmanager
    def track(self) -> Iterator[None]:
        """Count the current task as one request; refused during shutdown."""
        if self.stopping.is_set():
            raise Unavailable(SHUTTING_DOWN, retry_after_s=1.0)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if self.polling is not None:
            self.polling.begin()
        try:
            yield
        finally:
            self._tasks.discard(task)
            self._aborted.discard(task)

    def aborted(self) -> bool:
        """Tell whether the shutdown cancels the current task; if so, that counts as handled."""
        task = asyncio.current_task()
        if task is None or task not in self._aborted:
            return False
        task.uncancel()
        return True

    def leave(self, lame_duck_s: float) -> None:
        """Say from now on that the server goes, and let everything go on meanwhile."""
        self.leaves_in_s = lame_duck_s
        self.leaving.set()

    async def drain(self, grace_s: float, abort_s: float) -> None:
        """Refuse new requests, wait for those running, then cancel the rest and wait for it."""
        self.stopping.set()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=grace_s)
        left = tuple(self._tasks)
        for task in left:
            self._aborted.add(task)
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=abort_s)


@dataclass(slots=True)
class ServerState:
    """The engine, the sessions, the counters, the ways in, what is kept and the limits."""

    mind: LiveMind
    registry: SessionRegistry
    metrics: Metrics
    images: ImageDoor
    in_flight: InFlight
    door: Door = field(default_factory=lambda: Door(ServerConfig()))
    responses: ResponseStore = field(default_factory=ResponseStore)
    started_at: int = field(default_factory=lambda: int(time.time()))

    async def reload_keys(self, server: ServerConfig | None = None) -> bool:
        """Read the API keys again; sessions of those that are gone end. False: the old ones stay.

        ``server``: where they are from now on; None = where they were.
        """
        try:
            self.door.keys.replace(load_keys(server or self.limits))
        except ConfigError as exc:
            logger.error("the API keys stay as they are: %s", exc)
            return False
        logger.warning("%d API keys are in force", len(self.door.keys))
        gone = Unauthorized("the API key is not in force any more")
        await self.registry.close_all(lambda live: not self.door.keys.owns(live.owner), gone)
        return True

    @property
    def limits(self) -> ServerConfig:
        """The ``server`` part of the configuration."""
        return self.mind.settings.server


STATE = web.AppKey("livemind_state", ServerState)
