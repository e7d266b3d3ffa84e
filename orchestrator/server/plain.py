"""One answer that needs no session: nothing is routed, retrieved, prepared or settled.

It is generated in the task of the request that reads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from ...backends.affinity import affinity_key
from ...backends.base import Chunk, FinishReason, GenerationParams, Usage
from ..errors import ErrorInfo, from_exception
from ..events import ResponseDone, ResponseTextDelta, Status, Timings
from ..prompt import Context, build
from .middleware import TurnFailed
from .schema import ChatRequest, CompletionRequest
from .state import ServerState

NO_PARAMS = GenerationParams()


def plain_chat(state: ServerState, body: ChatRequest, request_id: str) -> PlainTurn | None:
    """Return the turn of a chat that one expert answers alone and at once; None: any other.

    Raises:
        NotFound: unknown model.
        InvalidRequest: retrieval or this consensus is not possible here.
    """
    if body.livemind or body.has_images:
        return None
    consensus = body.consensus
    expert = state.mind.sole_expert(
        model=state.resolve_model(body.model),
        retrieval=body.retrieval,
        consensus=None if consensus is None else consensus.onto(state.mind.consensus),
    )
    if expert is None:
        return None
    context = Context(body.instructions, body.history({}), tuple(body.documents or ()))
    chunks = state.mind.complete(
        build(context, body.text),
        body.params(NO_PARAMS),
        model=expert,
        cache_salt=body.cache_salt,
    )
    return PlainTurn(state, request_id, expert, chunks, body.user or request_id)


def plain_completion(state: ServerState, body: CompletionRequest, request_id: str) -> PlainTurn:
    """Return the turn of a plain prompt; without a model the default expert answers.

    Raises:
        NotFound: unknown model.
    """
    expert = state.resolve_model(body.model) or state.mind.settings.default_expert
    chunks = state.mind.complete(body.prompt, body.params(), model=expert)
    return PlainTurn(state, request_id, expert, chunks, body.user)


class PlainTurn(AbstractAsyncContextManager["PlainTurn"]):
    """A turn as its request sees it: an iterator over the text, counted when the block ends.

    Args:
        state: of the server.
        request_id: of the HTTP request.
        expert: who answers.
        chunks: of the answer, not begun yet.
        affinity: see ``backends.affinity``.

    Attributes:
        expert: who answers.
        done: the turn's end; None before it.
    """

    def __init__(
        self,
        state: ServerState,
        request_id: str,
        expert: str,
        chunks: AsyncGenerator[Chunk, None],
        affinity: str | None,
    ) -> None:
        self.expert = expert
        self.done: ResponseDone | None = None
        self._state = state
        self._request_id = request_id
        self._chunks = chunks
        self._affinity = affinity
        self._began_s = asyncio.get_running_loop().time()
        self._first_s: float | None = None
        self._finish: FinishReason | None = None
        self._usage: Usage | None = None
        self._error: ErrorInfo | None = None

    async def __aenter__(self) -> PlainTurn:
        self._outer = affinity_key.set(self._affinity)
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ResponseTextDelta:
        """Return the next piece of text; it may be empty.

        Raises:
            LiveMindError, ExpertError: the request cannot be answered.
        """
        if self.done is not None:
            raise StopAsyncIteration
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self.done = self._end("completed")
            raise
        except Exception as exc:
            self._error = from_exception(exc)
            raise
        self._usage = chunk.usage or self._usage
        self._finish = chunk.finish_reason or self._finish
        if self._first_s is None:
            self._first_s = asyncio.get_running_loop().time()
        if self._finish is not None and self._usage is not None:
            self.done = self._end("completed")
        return ResponseTextDelta(self._request_id, chunk.text, chunk.token_ids, chunk.logprobs)

    async def free(self) -> None:
        """Let the expert go. Idempotent."""
        await self._chunks.aclose()

    def in_time(self) -> AbstractAsyncContextManager[None]:
        """Return a block that may last until the turn's time limit.

        Raises:
            TurnFailed: ``server.turn_timeout_s`` have passed since the turn began.
        """
        return _InTime(self, self._began_s + self._state.limits.turn_timeout_s)

    def too_late(self) -> TurnFailed:
        """Return the error of a turn that takes too long."""
        limit_s = self._state.limits.turn_timeout_s
        message = f"no answer within {limit_s:g} s (server.turn_timeout_s)"
        self._error = ErrorInfo(504, message, "timeout", None, "timeout")
        return TurnFailed(self._error)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the expert unless it has ended, and count the turn."""
        try:
            await self.free()
        finally:
            affinity_key.reset(self._outer)
        if self.done is None:
            self.done = self._end("cancelled" if self._error is None else "failed")
        self._state.metrics.turn_done(self.done)

    def _end(self, status: Status) -> ResponseDone:
        now_s, first_s = asyncio.get_running_loop().time(), self._first_s
        ttft_ms = None if first_s is None else round((first_s - self._began_s) * 1000, 3)
        timings = Timings(ttft_ms=ttft_ms, total_ms=round((now_s - self._began_s) * 1000, 3))
        return ResponseDone(
            self._request_id,
            1,
            status,
            self.expert,
            self._finish,
            self._usage,
            timings,
            error=self._error,
        )


class _InTime(AbstractAsyncContextManager[None]):
    """See ``PlainTurn.in_time``."""

    def __init__(self, turn: PlainTurn, deadline_s: float) -> None:
        self._turn = turn
        self._limit = asyncio.timeout_at(deadline_s)

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._limit.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise self._turn.too_late() from None
