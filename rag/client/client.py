"""The bridge as a ``Retriever``: passages in time, or an answer that says why there are none.

Owns the deadline, retries and circuit breaker of a retrieval on the caller's side.
"""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import FIRST_COMPLETED
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import httpx
from pydantic import ValidationError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from ..base import Passage, RetrievalResult
from ..wire import MAX_DEADLINE_MS, RetrieveAnswer, RetrieveRequest
from .breaker import CircuitBreaker
from .memory import HedgeDelay, KnownTexts

QUERY_CHARS = 1_000  # about the 256 tokens that the encoder reads

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one exchange gave.

    Attributes:
        settles: whether another bridge need not be asked any more.
        alive: whether the bridge did its part; None = that cannot be told.
    """

    passages: tuple[Passage, ...]
    degraded: str | None
    settles: bool = False
    alive: bool | None = True
    provisional: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Running:
    revision: int
    task: asyncio.Task[_Outcome]


@dataclass(frozen=True, slots=True)
class _Exchange:
    """A request, the texts known when it began, and its time: by the clock and by the loop."""

    asked: RetrieveRequest
    known: Mapping[str, str]
    began: float
    deadline_ms: float
    ends_s: float


class BridgeClient:
    """Asks a bridge over pooled HTTP connections. Task-safe; belongs to one event loop."""

    def __init__(
        self,
        base_url: str,
        *,
        second_url: str | None = None,
        collection: str = "default",
        mode: Literal["dense", "sparse", "hybrid"] = "hybrid",
        top_k: int = 3,
        min_score: float | None = 0.0,
        failures: int = 3,
        cool_down_s: float = 5.0,
        token: str | None = None,
        headers: Callable[[], Mapping[str, str]] = dict,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open no connection yet.

        Args:
            base_url: of the bridge, for example ``http://127.0.0.1:8001``.
            second_url: of a bridge with the same documents; asked for a final query that the first
                has not answered in most answers' time (whichever answers first counts) or cannot
                answer (failed, refused, overloaded), or while the first is left alone.
            collection: where to look.
            mode: by vectors, words, or both.
            top_k: passages to ask for, 1 to 50.
            min_score: lowest cosine worth having, -1 to 1; None = the encoder's own, which
                passages with most of the question's words need not reach.
            failures: consecutive failures after which it is not asked for a while.
            cool_down_s: how long.
            token: sent with every request; a bridge of another machine wants it.
            headers: returns what a request carries beyond that: a trace's context, for example.
            clock: monotonic seconds, for durations and the cool-down.

        Raises:
            ValueError: ``top_k`` or ``min_score`` is out of range, or the URL is not HTTP.
        """
        for url in (base_url, second_url):
            if url is not None and httpx.URL(url).scheme not in ("http", "https"):
                raise ValueError(f"bridge URL {url!r} must begin with http:// or https://")
        self._asks = RetrieveRequest(
            query="-", session_id="-", revision=0, top_k=top_k, min_score=min_score,
            collection=collection, mode=mode,
        )  # fmt: skip
        self._second_url = second_url
        self._headers = headers
        self._hedge = HedgeDelay()
        self._texts = KnownTexts()
        self._running: dict[str, list[_Running]] = {}
        self._clock = clock
        self._breaker = CircuitBreaker(failures, cool_down_s, clock)
        # The one deadline is the caller's; httpx adds none of its own. A proxy from the
        # environment is for the internet, not for the bridge.
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            timeout=None,
            limits=httpx.Limits(max_connections=128, max_keepalive_connections=32),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def retrieve(
        self, query: str, *, revision: int, partial: bool, deadline_ms: float, session_id: str
    ) -> RetrievalResult:
        """Return passages for the query's last 1000 characters.

        Args:
            query: the text so far; blank text finds nothing.
            revision: of the text; the bridge drops older ones of the session.
            partial: whether the text is still growing.
            deadline_ms: after this the answer is ``timeout``.
            session_id: whose text it is.

        Returns:
            ``degraded`` is None, ``timeout``, ``unreachable`` (no connection, or the circuit is
            open after repeated failures), ``superseded``, ``error: <status>``, or the bridge's own
            reasons. Cancelling closes the connection; it is the only thing that raises.
        """
        began = self._clock()
        window = query[-QUERY_CHARS:]
        if not window.strip():
            return RetrievalResult(revision, (), ms=0.0)
        first = self._breaker.allows()
        if not first and (partial or self._second_url is None):
            return RetrievalResult(revision, (), degraded="unreachable", ms=0.0)
        known = self._texts.of(session_id)  # another answer may replace it meanwhile
        request = self._asks.model_copy(
            update={
                "query": window.encode("utf-8", "replace").decode(),
                "session_id": session_id,
                "revision": revision,
                "partial": partial,
                "known": list(known),
            }
        )
        ends_s = asyncio.get_running_loop().time() + deadline_ms / 1000.0
        exchange = _Exchange(request, known, began, deadline_ms, ends_s)
        try:
            outcome = await self._unless_newer(exchange, first)
        except asyncio.CancelledError:
            if first:
                self._breaker.abandoned()
            raise
        ms = (self._clock() - began) * 1000.0
        return RetrievalResult(
            revision, outcome.passages, outcome.degraded, ms, outcome.provisional
        )

    def _note(self, outcome: _Outcome) -> None:
        """Tell the first bridge's breaker what became of a request to it."""
        was_open = self._breaker.open
        if outcome.alive is None:
            self._breaker.abandoned()
        elif outcome.alive:
            self._breaker.succeeded()
        else:
            self._breaker.failed()
        if self._breaker.open != was_open:
            state = f"is gone: {outcome.degraded}" if self._breaker.open else "is back"
            _LOG.warning("the bridge %s %s", self._http.base_url, state)

    async def _unless_newer(self, exchange: _Exchange, first: bool) -> _Outcome:
        """Ask; a newer revision of the session closes the connections of the older ones."""
        asked = exchange.asked
        running = self._running.setdefault(asked.session_id, [])
        for older in running:
            if older.revision < asked.revision:
                older.task.cancel()
        task = asyncio.ensure_future(self._ask_bridges(exchange, first))
        mine = _Running(asked.revision, task)
        running.append(mine)
        try:
            await asyncio.wait({task})
            if not task.cancelled():
                return task.result()
            if first:
                self._breaker.abandoned()
            return _Outcome((), "superseded")
        finally:
            running.remove(mine)
            if not running:
                self._running.pop(asked.session_id, None)
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _ask_bridges(self, exchange: _Exchange, first: bool) -> _Outcome:
        """Ask the first bridge, the second instead, or for a final query both."""
        if not first and self._second_url is not None:
            return await self._ask(self._second_url, exchange)
        asking_first = asyncio.ensure_future(self._ask("", exchange))
        tasks = [asking_first]
        try:
            if self._second_url is not None and not exchange.asked.partial:
                await asyncio.wait(tasks, timeout=self._hedge.seconds)
                if not (asking_first.done() and asking_first.result().settles):
                    second = self._ask(self._second_url, exchange)
                    tasks.append(asyncio.ensure_future(second))
            waiting = set(tasks)
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=FIRST_COMPLETED)
                for task in done:
                    if task.result().settles:
                        self._hedge.took(self._clock() - exchange.began)
                        return task.result()
            return max((task.result() for task in tasks), key=lambda o: o.alive is not False)
        finally:
            if asking_first.done():
                self._note(asking_first.result())
            else:
                self._breaker.abandoned()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, base: str, exchange: _Exchange) -> _Outcome:
        try:
            async with asyncio.timeout_at(exchange.ends_s):
                response = await self._post(base, exchange)
            return self._read(response, exchange)
        except TimeoutError:
            return _Outcome((), "timeout", alive=False)
        except httpx.TransportError:
            return _Outcome((), "unreachable", alive=False)
        except (ValidationError, KeyError):
            return _Outcome((), "error: malformed answer", alive=False)
        except Exception as exc:
            # An answer without documents is better than none, whatever went wrong.
            _LOG.warning("retrieval failed: %s", type(exc).__name__)
            return _Outcome((), f"error: {type(exc).__name__}", alive=False)

    async def _post(self, base: str, exchange: _Exchange) -> httpx.Response:
        """Send it; a refused connection is tried again, since nothing has happened yet."""
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(httpx.ConnectError),
            stop=stop_after_attempt(3),
            wait=wait_exponential(multiplier=0.02, max=0.2),
            reraise=True,
        )
        async for attempt in attempts:
            with attempt:
                left_ms = exchange.deadline_ms - (self._clock() - exchange.began) * 1000.0
                body = exchange.asked.model_dump(exclude_none=True)
                body["min_score"] = exchange.asked.min_score  # None is the encoder's own
                body["deadline_ms"] = min(max(left_ms, 1.0), MAX_DEADLINE_MS)
                carried = dict(self._headers())
                return await self._http.post(f"{base}/v1/retrieve", json=body, headers=carried)
        raise AssertionError("unreachable: tenacity re-raises the last error")

    def _read(self, response: httpx.Response, exchange: _Exchange) -> _Outcome:
        if response.status_code == httpx.codes.CONFLICT:
            return _Outcome((), "superseded", settles=True, alive=None)
        if response.status_code != httpx.codes.OK:
            alive = response.status_code < httpx.codes.INTERNAL_SERVER_ERROR
            return _Outcome((), f"error: {response.status_code}", alive=alive)
        answer = RetrieveAnswer.model_validate_json(response.content)
        if answer.revision != exchange.asked.revision:
            return _Outcome((), "error: answer of another revision", alive=False)
        degraded = ", ".join(answer.degraded) or None
        if answer.overloaded:
            return _Outcome((), degraded, alive=None)
        passages = answer.passages(exchange.known)
        self._texts.keep(
            exchange.asked.session_id,
            {r.hash: p.text for r, p in zip(answer.results, passages, strict=True) if r.hash},
        )
        return _Outcome(passages, degraded, settles=True, provisional=answer.provisional)
