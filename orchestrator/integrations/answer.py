"""An answer while it comes: kept from its beginning, so that whoever asks again reads the same one.

A framework asks before a turn is over, drops the question and asks it again. The answer goes on for
a moment without a reader, and only what nobody came back for is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any


class CallFailed(Exception):
    """A request was refused or broke off.

    Attributes:
        status: of the HTTP answer; None where there was none.
        code: the server's name of the error, if it gave one.
        retryable: the same request may be answered later.
    """

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retryable = status is None or status in (408, 429) or status >= 500


@dataclass(frozen=True, slots=True)
class Called:
    """A function that an answer calls; ``arguments`` is a JSON object."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer: text, or at its end what it took and what it calls.

    Attributes:
        response_id: of the answer.
        text: empty only beside ``usage`` or ``calls``.
        usage: token counts as OpenAI's API has them.
        calls: all calls of the answer, whole.
    """

    response_id: str
    text: str = ""
    usage: dict[str, Any] | None = None
    calls: tuple[Called, ...] = ()


class Answer:
    """Reads ``source`` to its end in a task of its own.

    Args:
        source: yields the pieces; it is closed whatever happens.
        keep_s: how long the answer goes on while nobody reads it.
    """

    def __init__(self, source: AsyncGenerator[Piece, None], keep_s: float) -> None:
        self._source = source
        self._keep_s = keep_s
        self._pieces: list[Piece] = []
        self._news = asyncio.Event()
        self._readers = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._task = asyncio.create_task(self._collect(), name="livemind-answer")
        self._task.add_done_callback(self._over)
        self._leave()

    @property
    def running(self) -> bool:
        """Whether more may come."""
        return not self._task.done()

    @property
    def is_read(self) -> bool:
        """Whether somebody reads it now."""
        return self._readers > 0

    @property
    def broken(self) -> bool:
        """Whether it ended without its last piece."""
        task = self._task
        return task.done() and (task.cancelled() or task.exception() is not None)

    async def read(self) -> AsyncGenerator[Piece, None]:
        """Yield the pieces from the first one on, as they come; for any number of readers.

        Raises:
            CallFailed: the answer failed, or was cancelled.
        """
        self._readers += 1
        self._stay()
        try:
            place = 0
            while True:
                news = self._news
                for piece in self._pieces[place:]:
                    place += 1
                    yield piece
                if place == len(self._pieces):
                    if self._task.done():
                        break
                    await news.wait()
            if self._task.cancelled():
                raise CallFailed("the answer was cancelled", status=499, code="cancelled")
            self._task.result()
        finally:
            self._readers -= 1
            self._leave()

    def cancel(self) -> None:
        """End it now; its readers get an error. Idempotent."""
        self._stay()
        self._task.cancel()

    def on_end(self, call: Callable[[], None]) -> None:
        """Have this called when nothing of it runs any more."""
        self._task.add_done_callback(lambda task: call())

    async def ended(self) -> None:
        """Wait until nothing of it runs any more."""
        await asyncio.wait([self._task])

    async def _collect(self) -> None:
        try:
            async for piece in self._source:
                self._pieces.append(piece)
                self._tell()
        finally:
            await self._source.aclose()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._stay()
        if not task.cancelled():
            task.exception()  # told to readers; without one there is nobody to tell
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _stay(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _leave(self) -> None:
        if not self._readers and self.running:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(self._keep_s, self._task.cancel)
