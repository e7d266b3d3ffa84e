"""The spans of one client's turns, made of what leaves its sessions; the only place that makes any.

The names are those of OpenTelemetry's GenAI semantic conventions 0.1.0, and `livemind.…` where they
have none. Numbers, names of the configuration and codes alone: no text, no key, no session's id.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING

from ...events import (
    DraftAdopted,
    DraftCreated,
    DraftDiscarded,
    Event,
    PrefillUpdated,
    ResponseCreated,
    ResponseDone,
    RetrievalUpdated,
    RouteUpdated,
)
from ...fairness.asker import asker
from .spans import Spans, Step, Value

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

MOST_STEPS = 256
"""Of a turn; a person types for minutes."""
PROVIDER = "livemind"


class TurnTrace:
    """Takes the events of a session, or the end of a turn without one; on one event loop.

    Args:
        spans: writes what is over.
        headers: of the request; its trace goes on here.
        operation: ``chat`` or ``text_completion``.
        clock: Unix time, nanoseconds.
    """

    def __init__(
        self,
        spans: Spans,
        headers: Mapping[str, str],
        operation: str = "chat",
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.came_with = spans.told(headers)
        self._spans = spans
        self._operation = operation
        self._clock = clock
        self._conversation: str | None = None
        self._asked: dict[str, TurnTrace] = {}
        self._begin()

    def _begin(self) -> None:
        """Wait for the next turn, which nothing is known of."""
        self._turn: SpanContext | None = None
        self._answer: SpanContext | None = None
        self._created_ns: int | None = None
        self._steps: list[Step] = []
        self._drafts: dict[str, tuple[int, DraftCreated]] = {}
        self._left_out = 0

    def of_session(self, session_id: str) -> None:
        """The turns are those of a session. Its id opens it, so what is told is a digest."""
        self._conversation = sha256(session_id.encode()).hexdigest()[:32]

    def headers(self) -> dict[str, str]:
        """Return what requests for the turn carry: its span, or the answer's once there is one."""
        return self._spans.headers(self._answer_context() or self._turn_context())

    def committed(self, response_id: str, by: TurnTrace | None) -> None:
        """A turn of this session was committed by a request that may belong to another trace."""
        if by is not None and by is not self and by.came_with is not None:
            self._asked[response_id] = by

    def saw(self, event: Event) -> None:
        """Note what an event tells; at the last one of a turn write its spans."""
        now_ns = self._clock()
        match event:
            case RouteUpdated(ms=float(ms)):
                share = {"livemind.confidence": event.confidence, "livemind.stable": event.stable}
                self._note("route", now_ns, ms, event.expert, event.revision, share)
            case RetrievalUpdated():
                found: dict[str, Value] = {
                    "gen_ai.operation.name": "retrieval",
                    "livemind.passages": len(event.passages),
                    "livemind.stable": event.stable,
                }
                if event.degraded is not None:
                    found["livemind.degraded"] = event.degraded
                self._note("retrieval", now_ns, event.ms or 0.0, None, event.revision, found)
            case PrefillUpdated():
                tokens = {
                    "livemind.tokens_ready": event.tokens_ready,
                    "livemind.tokens_total": event.tokens_total,
                }
                self._note("prefill", now_ns, event.ms or 0.0, event.expert, event.revision, tokens)
            case DraftCreated():
                self._drafts[event.draft_id] = now_ns, event
            case DraftAdopted():
                self._drafted(event.draft_id, now_ns, "adopted", event.tokens)
            case DraftDiscarded():
                self._drafted(event.draft_id, now_ns, event.reason, event.tokens)
            case ResponseCreated():
                self._created_ns = now_ns
            case ResponseDone():
                self._ended(event, now_ns)

    def closed(self) -> None:
        """The session is over: what was prepared for a turn that nobody committed is written."""
        if not self._steps:
            return
        start_ns = min(step.start_ns for step in self._steps)
        told: dict[str, Value] = {"livemind.status": "abandoned", **self._told()}
        self._write_turn(Step("turn", start_ns, self._clock(), told))
        self._begin()

    # ---- steps

    def _note(
        self,
        name: str,
        end_ns: int,
        ms: float,
        expert: str | None,
        revision: int,
        more: Mapping[str, Value],
    ) -> None:
        if len(self._steps) >= MOST_STEPS:
            self._left_out += 1
            return
        told: dict[str, Value] = {"livemind.revision": revision, **more}
        if expert is not None:
            told["livemind.expert"] = expert
        asks = name in ("prefill", "draft")
        self._steps.append(Step(name, end_ns - _ns(ms), end_ns, told, client=asks))

    def _drafted(self, draft_id: str, now_ns: int, outcome: str, tokens: int) -> None:
        begun = self._drafts.pop(draft_id, None)
        if begun is None:
            return
        start_ns, draft = begun
        more: dict[str, Value] = {"livemind.outcome": outcome[:100], "livemind.tokens": tokens}
        ms = (now_ns - start_ns) / 1e6
        self._note("draft", now_ns, ms, draft.expert, draft.revision, more)

    # ---- spans

    def _turn_context(self) -> SpanContext:
        if self._turn is None:
            self._turn = self._spans.begin(self.came_with)
        return self._turn

    def _answer_context(self) -> SpanContext | None:
        """Return the span of the answer where it belongs to the trace that asked for it."""
        if self._answer is None and self._asked:
            self._answer = self._spans.begin(next(iter(self._asked.values())).came_with)
        return self._answer

    def _told(self) -> dict[str, Value]:
        told: dict[str, Value] = {}
        if self._conversation is not None:
            told["gen_ai.conversation.id"] = self._conversation
        if (who := asker.get()) is not None:
            told["livemind.key_name"] = who.name
        if self._left_out:
            told["livemind.steps_left_out"] = self._left_out
        return told

    def _write_turn(self, turn: Step, error: str | None = None) -> None:
        context = self._turn_context()
        for step in self._steps:
            self._spans.write(step, self._spans.begin(context), context)
        self._spans.write(turn, context, self.came_with, server=True, error=error)

    def _ended(self, done: ResponseDone, now_ns: int) -> None:
        timings, ledger = done.timings, done.ledger
        commit_ns = now_ns - _ns(timings.total_ms or 0.0)
        if self._created_ns is not None:  # this end was seen a little later than it was
            commit_ns = min(commit_ns, self._created_ns)
        start_ns = commit_ns - _ns(timings.typing_ms or 0.0)
        error = None if done.error is None else done.error.code
        told: dict[str, Value] = {
            "livemind.status": done.status,
            "livemind.revision": done.revision,
            "livemind.prefill_speculated": ledger.prefill_speculated,
            "livemind.prefill_adopted": ledger.prefill_adopted,
            "livemind.draft_speculated": ledger.draft_speculated,
            "livemind.draft_adopted": ledger.draft_adopted,
            **self._told(),
        }
        if self._created_ns is not None:
            self._steps.append(Step("commit", commit_ns, self._created_ns, {}))
        asked = self._asked.get(done.response_id)
        if done.expert is not None:
            self._write_answer(done, commit_ns, now_ns, asked, error)
        self._write_turn(Step("turn", start_ns, now_ns, told), error)
        self._asked.pop(done.response_id, None)
        self._begin()

    def _write_answer(
        self,
        done: ResponseDone,
        commit_ns: int,
        now_ns: int,
        asked: TurnTrace | None,
        error: str | None,
    ) -> None:
        turn = self._turn_context()
        context = self._answer_context() if asked is not None else None
        parent = turn if context is None or asked is None else asked.came_with
        context = context or self._spans.begin(turn)
        start_ns = self._created_ns or commit_ns
        told = self._told_of_answer(done)
        answer = Step(f"{self._operation} {done.expert}", start_ns, now_ns, told, client=True)
        if done.timings.ttft_ms is not None:
            first_ns = max(start_ns, commit_ns + _ns(done.timings.ttft_ms))
            first = Step("first_token", start_ns, first_ns, {})
            self._spans.write(first, self._spans.begin(context), context)
        link = turn if parent is not turn else None
        self._spans.write(answer, context, parent, link=link, error=error)

    def _told_of_answer(self, done: ResponseDone) -> dict[str, Value]:
        assert done.expert is not None
        told: dict[str, Value] = {
            "gen_ai.operation.name": self._operation,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": done.expert,
            "gen_ai.request.stream": True,
            "gen_ai.response.model": done.expert,
            "gen_ai.response.id": done.response_id,
            **self._told(),
        }
        if done.finish_reason is not None:
            told["gen_ai.response.finish_reasons"] = [done.finish_reason]
        if done.timings.ttft_ms is not None:
            told["gen_ai.response.time_to_first_chunk"] = done.timings.ttft_ms / 1000
        if (used := done.usage) is not None:
            told["gen_ai.usage.input_tokens"] = used.prompt_tokens
            told["gen_ai.usage.output_tokens"] = used.completion_tokens
            if used.cached_tokens is not None:
                told["gen_ai.usage.cache_read.input_tokens"] = used.cached_tokens
        return told


def _ns(ms: float) -> int:
    return round(ms * 1e6)
