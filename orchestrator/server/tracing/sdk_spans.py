"""``Spans`` over OpenTelemetry's SDK; imported only where that is installed and wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Timer

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .spans import Step

FLUSH_S = 2.0
"""So long at most a stop waits for the receiver."""


class GivenIds(RandomIdGenerator):
    """Gives the next span the ids that are known already; random ones without."""

    def __init__(self) -> None:
        self.next: SpanContext | None = None

    def generate_span_id(self) -> int:
        """Return the next span's id."""
        return super().generate_span_id() if self.next is None else self.next.span_id

    def generate_trace_id(self) -> int:
        """Return the trace of the next span."""
        return super().generate_trace_id() if self.next is None else self.next.trace_id


class SdkSpans:
    """See ``spans.Spans``.

    Args:
        provider: takes every span that is written; its ids come from ``ids``.
        share: of the traces that begin here and are sampled.
        give_up: ends tries to send to a receiver that does not answer.
    """

    def __init__(
        self,
        provider: TracerProvider,
        ids: GivenIds,
        share: float,
        give_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._provider = provider
        self._give_up = give_up
        self._tracer = provider.get_tracer("livemind")
        self._ids = ids
        self._sampler = TraceIdRatioBased(share)
        self._propagator = TraceContextTextMapPropagator()

    def told(self, headers: Mapping[str, str]) -> SpanContext | None:
        """See ``spans.Spans``."""
        carrier = {name: headers[name] for name in self._propagator.fields if name in headers}
        if not carrier:
            return None
        context = get_current_span(self._propagator.extract(carrier)).get_span_context()
        return context if context.is_valid else None

    def headers(self, context: SpanContext) -> dict[str, str]:
        """See ``spans.Spans``."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(NonRecordingSpan(context)))
        return carrier

    def begin(self, parent: SpanContext | None) -> SpanContext:
        """See ``spans.Spans``."""
        span_id = RandomIdGenerator().generate_span_id()
        if parent is not None:
            state = parent.trace_state
            return SpanContext(parent.trace_id, span_id, False, parent.trace_flags, state)
        trace_id = RandomIdGenerator().generate_trace_id()
        decided = self._sampler.should_sample(None, trace_id, "turn").decision
        sampled = decided is Decision.RECORD_AND_SAMPLE
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        return SpanContext(trace_id, span_id, False, flags)

    def write(
        self,
        step: Step,
        context: SpanContext,
        parent: SpanContext | None,
        *,
        server: bool = False,
        link: SpanContext | None = None,
        error: str | None = None,
    ) -> None:
        """See ``spans.Spans``."""
        if not context.trace_flags.sampled:
            return
        kind = SpanKind.CLIENT if step.client else SpanKind.INTERNAL
        above = INVALID_SPAN if parent is None else NonRecordingSpan(parent)
        self._ids.next = context
        try:
            span = self._tracer.start_span(
                step.name,
                set_span_in_context(above),
                SpanKind.SERVER if server else kind,
                dict(step.attributes),
                () if link is None else (Link(link),),
                step.start_ns,
            )
        finally:
            self._ids.next = None
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(step.end_ns)

    def close(self) -> None:
        """See ``spans.Spans``."""
        too_late = Timer(FLUSH_S, self._give_up)
        too_late.start()
        try:
            self._provider.shutdown()
        finally:
            too_late.cancel()
