"""The traces of one server: a ``TurnTrace`` for every request that may ask, of the current task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextvars import ContextVar

from ....backends.remote.carried import carried_headers
from ...config.telemetry import TelemetryConfig
from ...events import Event
from .otlp import otlp_spans
from .spans import Spans
from .turn_trace import TurnTrace

logger = logging.getLogger(__name__)

COMPLETIONS = "/v1/completions"

turn_trace: ContextVar[TurnTrace | None] = ContextVar("livemind_turn_trace", default=None)
"""Of the request that the current task answers, or that opened its session; None without traces."""


class Traces:
    """Begins traces where requests come in, and hands them what happens; nothing where off.

    Args:
        telemetry: where spans are sent.
        spans: written there instead.

    Raises:
        ConfigError: traces are wanted, and OpenTelemetry is not installed.
    """

    def __init__(self, telemetry: TelemetryConfig, spans: Spans | None = None) -> None:
        if spans is None and telemetry.otlp_endpoint is not None:
            spans = otlp_spans(telemetry)
        self._spans = spans

    def enter(self, headers: Mapping[str, str], path: str) -> None:
        """A request has come: what its task and the sessions that it opens do belongs to it."""
        if self._spans is None:
            return
        operation = "text_completion" if path == COMPLETIONS else "chat"
        trace = TurnTrace(self._spans, headers, operation)
        turn_trace.set(trace)
        carried_headers.set(trace.headers)

    def saw(self, event: Event) -> None:
        """Take an event of a session, or the end of a turn without one; never raises."""
        trace = turn_trace.get()
        if trace is None:
            return
        try:
            trace.saw(event)
        except Exception as exc:  # an answer must not end because it cannot be told
            logger.error("a turn was not traced: %s", type(exc).__name__)

    async def aclose(self) -> None:
        """Send what waits."""
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)
