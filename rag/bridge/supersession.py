"""Which retrievals still matter: per session only those of the newest revision."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


class Superseded(Exception):
    """A newer revision of the same session made this one pointless."""


@dataclass(slots=True)
class _Session:
    revision: int
    running: list[_Turn] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Turn:
    scope: asyncio.Timeout
    superseded: bool = False

    def supersede(self) -> None:
        self.superseded = True
        if not self.scope.expired():
            self.scope.reschedule(asyncio.get_running_loop().time())


class Supersession:
    """Runs retrievals under a deadline and stops those that a newer revision overtakes.

    Belongs to one event loop. Remembers the newest revision of ``max_sessions`` sessions; the one
    that was quiet longest is forgotten first, and may then ask with any revision.
    """

    def __init__(self, max_sessions: int = 4096) -> None:
        self._max_sessions = max_sessions
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    @asynccontextmanager
    async def turn(self, session_id: str, revision: int, deadline_s: float) -> AsyncIterator[None]:
        """Run the block at most ``deadline_s`` seconds, and only while no newer revision comes.

        Equal revisions run side by side (a repeated request is no newer one).

        Raises:
            Superseded: a newer revision came before or meanwhile; the block was cancelled.
            TimeoutError: the deadline passed; the block was cancelled.
        """
        session = self._enter(session_id, revision)
        scope = asyncio.timeout(deadline_s)
        turn = _Turn(scope)
        try:
            async with scope:
                session.running.append(turn)
                yield
        except TimeoutError:
            if turn.superseded:
                raise Superseded from None
            raise
        finally:
            session.running.remove(turn)

    def _enter(self, session_id: str, revision: int) -> _Session:
        session = self._sessions.setdefault(session_id, _Session(revision))
        self._sessions.move_to_end(session_id)
        if revision < session.revision:
            raise Superseded
        if revision > session.revision:
            session.revision = revision
            for turn in session.running:
                if not turn.superseded:
                    turn.supersede()
        while len(self._sessions) > self._max_sessions:
            self._sessions.popitem(last=False)
        return session
