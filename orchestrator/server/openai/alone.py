"""One answer that needs no session: nothing is routed, retrieved, prepared or settled.

It is generated in the task of the request that reads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Self

from ....backends.base import Chunk, GenerationParams
from ....backends.remote.affinity import affinity_key, prefix_of, shared_prefix
from ...consensus.report import Report
from ...consensus.task import tokens_of
from ...errors import ErrorInfo, Overloaded
from ...events import Delta, ResponseDone, ResponseTextDelta, Status
from ...turn.ledger import TurnRecord, deltas, turn_timeout
from ...turn.prompt import Context, build
from ..middleware import TurnFailed, error_info
from ..state import ServerState
from ..tracing.arrival import arrived_s
from .bodies import ChatRequest, CompletionRequest

NO_PARAMS = GenerationParams()


Params = Callable[[GenerationParams], GenerationParams]
"""Makes a request's parameters of those that hold where it says nothing."""


def chat_alone(
    state: ServerState,
    body: ChatRequest,
    request_id: str,
    params: Params | None = None,
    *,
    affinity: str | None = None,
) -> AloneTurn | None:
    """Return the turn of a chat that one expert answers alone and at once; None: any other.

    ``params``: None = as the body says; ``affinity``: of the conversation, None = its prompt's.

    Raises:
        NotFound: unknown model.
        InvalidRequest: retrieval or this consensus is not possible here.
    """
    if body.livemind or body.has_images:
        return None
    consensus = body.consensus
    expert = state.mind.expert_alone(
        model=body.model,
        retrieval=body.retrieval,
        consensus=None if consensus is None else consensus.onto(state.mind.consensus),
    )
    if expert is None:
        return None
    report = Report()
    chunks = state.mind.complete(
        build(context_of(body), body.text),
        (params or body.params)(NO_PARAMS),
        model=expert,
        cache_salt=body.cache_salt,
        on_prompt=report.asks,
    )
    prefix = prefix_of(body.instructions)
    return AloneTurn(state, request_id, expert, chunks, affinity, report, prefix)


def context_of(body: ChatRequest) -> Context:
    """Return what stands around the user's last text, in a conversation without images."""
    return Context(
        body.instructions,
        body.history({}),
        tuple(body.documents or ()),
        follow=body.follow({}),
        template=body.template,
    )


def completion_alone(
    state: ServerState,
    body: CompletionRequest,
    request_id: str,
    prompt: str | tuple[int, ...],
    params: GenerationParams,
    affinity: str | None = None,
) -> AloneTurn:
    """Return the turn of a plain prompt; without a model the default expert answers.

    Raises:
        NotFound: unknown model.
    """
    expert = state.mind.pinned(body.model) or state.mind.settings.default_expert
    report = Report()
    chunks = state.mind.complete(prompt, params, model=expert, on_prompt=report.asks)
    return AloneTurn(state, request_id, expert, chunks, affinity, report)


class AloneTurn(AbstractAsyncContextManager["AloneTurn"]):
    """A turn as its request sees it: an iterator over the text, counted when the block ends.

    The expert writes for this reader alone, and is held until the text has been read or ``free``.

    Args:
        state: of the server.
        request_id: of the HTTP request.
        expert: who answers.
        chunks: of the answer, not begun yet.
        affinity, prefix: see ``backends.remote.affinity``.
        report: that ``chunks`` tells its prompt.

    Attributes:
        expert: who answers.
    """

    def __init__(
        self,
        state: ServerState,
        request_id: str,
        expert: str,
        chunks: AsyncGenerator[Chunk, None],
        affinity: str | None,
        report: Report,
        prefix: str | None = None,
    ) -> None:
        self.expert = expert
        self._state = state
        self._request_id = request_id
        self._chunks = chunks
        self._affinity, self._prefix = affinity, prefix
        self._report = report
        arrived = arrived_s.get()
        self._began_s = _now() if arrived is None else arrived
        self._opened: TurnRecord | None = None
        self._pieces: list[Delta] = []
        self._error: ErrorInfo | None = None
        self._refused = self._late = self._waits = False

    async def __aenter__(self) -> AloneTurn:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._reader, self._cancelling = task, task.cancelling()
        self._outer = affinity_key.set(self._affinity), shared_prefix.set(self._prefix)
        self._limit = loop.call_later(self._state.limits.turn_timeout_s, self._expire)
        loop.call_soon(self._record)  # the ledger is opened while the expert works
        return self

    @property
    def done(self) -> ResponseDone | None:
        """The turn's end; None before it."""
        return None if self._opened is None else self._opened.ended

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt; 0 before it was rendered."""
        return 0 if self._report.prompt is None else self._report.prompt.num_tokens

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        """Return the next piece of the answer; a text may be empty.

        Raises:
            TurnFailed: the expert took longer than ``server.turn_timeout_s``.
            LiveMindError, ExpertError: the request cannot be answered.
        """
        if self._pieces:
            return self._pieces.pop(0)
        if self.done is not None:
            raise StopAsyncIteration
        self._waits = True
        try:
            if self._late:
                raise self._too_late()
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._end("completed")
            raise
        except asyncio.CancelledError:
            if self._late and self._reader.uncancel() <= self._cancelling:
                raise self._too_late() from None
            raise  # somebody else wants it to end
        except Overloaded:
            self._refused = True
            raise
        except Exception as exc:
            self._error = error_info(exc)
            if isinstance(exc, ConnectionError):  # the expert's, not the client's
                raise TurnFailed(self._error) from exc
            raise
        finally:
            self._waits = False
        record, now_s = self._record(), _now()
        shows = record.saw(chunk, now_s)
        if shows:
            record.showed(chunk)
        assert record.report is not None
        began_s, ended = record.first_delta_s or now_s, chunk.finish_reason is not None
        record.report.saw(self.expert, tokens_of(chunk), began_s, ended=ended)
        if record.finish_reason is not None and record.usage is not None:
            self._end("completed")
        if not chunk.tool_calls and not chunk.reasoning:
            return ResponseTextDelta(self._request_id, chunk.text, chunk.token_ids, chunk.logprobs)
        first, *self._pieces = deltas(self._request_id, chunk)
        return first

    async def free(self) -> None:
        """Let the expert go, however far it is. Idempotent."""
        if self.done is not None:  # it has said everything, and ends by itself
            await anext(self._chunks, None)
        await self._chunks.aclose()

    async def __aexit__(self, *exc: object) -> None:
        """Stop the expert unless it has ended, and count the turn unless it was refused."""
        self._limit.cancel()
        try:
            await self.free()
        finally:
            affinity_key.reset(self._outer[0])
            shared_prefix.reset(self._outer[1])
            if not self._refused:
                done = self._end("failed" if self._error else "cancelled")
                self._state.metrics.turn_done(done)
                self._state.mind.count_turn(done)

    def _expire(self) -> None:
        """End the wait for the expert; ``asyncio.timeout`` would have to be made for every wait."""
        self._late = True
        if self._waits:
            self._reader.cancel()

    def _too_late(self) -> TurnFailed:
        self._error = turn_timeout(self._state.limits.turn_timeout_s)
        return TurnFailed(self._error)

    def _record(self) -> TurnRecord:
        if self._opened is None:
            self._opened = TurnRecord(self.expert, commit_s=self._began_s, report=self._report)
        return self._opened

    def _end(self, status: Status) -> ResponseDone:
        rates, record = self._state.mind.rates(self.expert), self._record()
        if status != "completed":
            record.complete_usage()
        return record.end(self._request_id, 1, status, self._error, now_s=_now(), rates=rates)


def _now() -> float:
    return asyncio.get_running_loop().time()
