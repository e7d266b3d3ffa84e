"""Owns the live sessions of the server: one task each, all in one TaskGroup, expiring.

A ``Session`` is entered and left in its own task; the doors only borrow it. Whatever happens to the
request that opened a session, its task ends it, and its last events are counted.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import InvalidRequest, LiveMindError, NotFound, Overloaded, Unavailable
from ...events import Event
from ...fairness.asker import asker
from .session import LiveSession

if TYPE_CHECKING:
    from ...live_mind import LiveMind
    from ...session import Session

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 10.0
OWN_PREFIX = "sess_"
"""Of the ids that this server makes; clients choose others."""
_CHOSEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")


@dataclass(slots=True, eq=False)
class _Opening:
    """A session that was asked for; ``done`` is it, or why there is none."""

    owner: str | None
    given: Mapping[str, Any]
    done: asyncio.Future[LiveSession] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class SessionRegistry:
    """Opens, finds, expires and closes sessions.

    Args:
        mind: makes the sessions and limits how many are open.
        idle_timeout_s: a live session without use for this long is closed.
        observe: called with every event of every session, in the order of its session.
    """

    def __init__(
        self,
        mind: LiveMind,
        *,
        idle_timeout_s: float,
        observe: Callable[[Event], None],
    ) -> None:
        self._mind = mind
        self._idle_timeout_s = idle_timeout_s
        self._observe = observe
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[LiveSession, asyncio.Task[None]] = {}
        self._by_id: dict[tuple[str | None, str], LiveSession] = {}
        self._creating: dict[tuple[str | None, str], asyncio.Task[LiveSession]] = {}
        self._opening: dict[asyncio.Task[None], _Opening] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let sessions live inside this block; at its end all of them are closed."""
        stop, ready = asyncio.Event(), asyncio.Event()
        owner = asyncio.create_task(self._own(ready, stop), name="session-registry")
        await ready.wait()
        try:
            yield
        finally:
            stop.set()
            await owner

    async def find_or_open(
        self, session_id: str, owner: str | None, *, affinity: str | None = None
    ) -> LiveSession:
        """Return the live session with this id; of its client's own choice it is opened if need be.

        Raises:
            InvalidRequest: it is no id that a client can choose.
            NotFound, Overloaded, Unavailable: as ``find`` and ``open``.
        """
        live = self.known(session_id, owner)
        if live is not None or session_id.startswith(OWN_PREFIX):
            return live or self.find(session_id, owner, param="id")
        if not _CHOSEN.fullmatch(session_id):
            message = (
                f"id: got {len(session_id)} characters, need 1 to 128 letters, digits, '.', '_', "
                "'~' or '-', the first a letter or digit"
            )
            raise InvalidRequest(message, param="id", code="invalid_value")
        key = owner, session_id
        if key not in self._creating:
            opening = self.open(owner, affinity=affinity, session_id=session_id)
            self._creating[key] = task = asyncio.create_task(opening, name="chosen-session")
            task.add_done_callback(lambda _: self._creating.pop(key))
        return await asyncio.shield(self._creating[key])

    async def open(
        self,
        owner: str | None,
        *,
        affinity: str | None = None,
        session_id: str | None = None,
    ) -> LiveSession:
        """Open a session in a task of its own; ``owner`` alone finds it.

        ``affinity``: what its requests have in common with others', None = nothing; ``session_id``:
        None = one that cannot be guessed.

        Where ``server.max_sessions`` are open the one that has been idle for longest ends, of the
        owner with the most, if that has more than this one.

        Raises:
            Overloaded: there is no place, or the key has as many as it may.
            Unavailable: the server is shutting down.
        """
        who = asker.get()
        most = None if who is None else who.max_sessions
        if most is not None and sum(live.owner == owner for live in self._tasks) >= most:
            message = f"{most} sessions of this key are open, its limit"
            raise Overloaded(message, code="too_many_sessions", retry_after_s=5.0)
        told = {"affinity": affinity, "session_id": session_id}
        given = {name: value for name, value in told.items() if value is not None}
        try:
            return await self._open(_Opening(owner, given))
        except Overloaded:
            if not await self._make_room(owner):
                raise
            return await self._open(_Opening(owner, given))

    async def _make_room(self, owner: str | None) -> bool:
        """End an idle session of the greediest owner; return whether there was one."""
        counts = Counter(live.owner for live in self._tasks)
        if owner is None or not counts:
            return False
        greediest, most = counts.most_common(1)[0]
        if greediest == owner or most <= counts[owner] + 1:
            return False
        idle = [live for live in self._tasks if live.owner == greediest and live.idle.is_set()]
        if not idle:
            return False
        reason = Overloaded("its place was needed for another key's", code="session_evicted")
        await self.close(min(idle, key=lambda live: live.last_used_s), reason)
        return True

    async def _open(self, opening: _Opening) -> LiveSession:
        if self._group is None:
            raise _shutting_down()
        task = self._group.create_task(self._run(opening), name="session")
        self._opening[task] = opening
        task.add_done_callback(self._not_opened)
        try:
            return await asyncio.shield(opening.done)
        except asyncio.CancelledError:
            task.cancel()
            opening.done.cancel()
            raise

    def known(self, session_id: str, owner: str | None) -> LiveSession | None:
        """Return the live session with this id, None as ``find`` raises."""
        return self._by_id.get((owner, session_id))

    def find(self, session_id: str, owner: str | None, *, param: str | None = None) -> LiveSession:
        """Return the live session with this id.

        Raises:
            NotFound: there is none, it has expired, or it belongs to another key.
        """
        live = self.known(session_id, owner)
        if live is None:
            raise NotFound(
                "no such session; it may have expired", param=param, code="session_not_found"
            )
        return live

    async def close(self, live: LiveSession, reason: LiveMindError | None = None) -> None:
        """End the session: cancel its response, count that, free everything. Idempotent."""
        self._by_id.pop((live.owner, live.id), None)
        task = self._tasks.get(live)
        if task is None:
            return
        live.end_reason = live.end_reason or reason
        task.cancel()
        if not (await asyncio.wait([task], timeout=CLOSE_TIMEOUT_S))[0]:
            logger.error("session %s does not end", live.id)

    async def close_all(self, which: Callable[[LiveSession], bool], reason: LiveMindError) -> None:
        """Close the sessions that ``which`` says."""
        ending = [live for live in tuple(self._tasks) if which(live)]
        await asyncio.gather(*(self.close(live, reason) for live in ending))

    async def _own(self, ready: asyncio.Event, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            reaper = group.create_task(self._reap(), name="session-reaper")
            ready.set()
            await stop.wait()
            self._group = None
            reaper.cancel()
            for task in self._opening:
                task.cancel()
            await self.close_all(lambda live: True, _shutting_down())

    async def _run(self, opening: _Opening) -> None:
        live: LiveSession | None = None
        try:
            session = self._mind.session(**opening.given)
            try:
                async with session:
                    live = self._entered(session, opening)
                    await self._pump(live)
            finally:
                if live is not None:
                    await self._pump(live)
        except Exception as exc:
            _fail(exc, opening, live)
        finally:
            if live is not None:
                self._tasks.pop(live, None)
                if self._by_id.get((live.owner, live.id)) is live:
                    del self._by_id[live.owner, live.id]
                live.end()

    def _entered(self, session: Session, opening: _Opening) -> LiveSession:
        live = LiveSession(session, owner=opening.owner)
        task = asyncio.current_task()
        assert task is not None
        del self._opening[task]
        self._tasks[live] = task
        self._by_id[live.owner, live.id] = live
        if not opening.done.cancelled():
            opening.done.set_result(live)
        return live

    def _not_opened(self, task: asyncio.Task[None]) -> None:
        """Tell whoever waits for a session whose task ended before it was open."""
        opening = self._opening.pop(task, None)
        if opening is not None and not opening.done.done():
            opening.done.set_exception(_shutting_down())

    async def _pump(self, live: LiveSession) -> None:
        """Hand on the session's events until it closes; after that, what it left behind."""
        async for event in live.session.events():
            self._observe(event)
            live.dispatch(event)

    async def _reap(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            now_s = loop.time()
            due_s = now_s + self._idle_timeout_s
            for live in tuple(self._by_id.values()):
                expires_s = live.last_used_s + self._idle_timeout_s
                if not live.idle.is_set():
                    continue
                if expires_s <= now_s:
                    limit = f"{self._idle_timeout_s:g} s (server.session_idle_timeout_s)"
                    reason = NotFound(f"the session was idle for {limit}", code="session_expired")
                    await self.close(live, reason)
                else:
                    due_s = min(due_s, expires_s)
            await asyncio.sleep(max(due_s - loop.time(), 0.001))


def _fail(exc: Exception, opening: _Opening, live: LiveSession | None) -> None:
    if not opening.done.done():
        opening.done.set_exception(exc)
        return
    if live is not None and live.end_reason is None:
        live.end_reason = (
            exc if isinstance(exc, LiveMindError) else Unavailable("the session failed")
        )


def _shutting_down() -> Unavailable:
    return Unavailable("the server is shutting down", retry_after_s=1.0)
