"""A span as a value, and what writes spans whose ids and times are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

Value = str | bool | int | float | Sequence[str]


class Step(Struct, frozen=True):
    """Something that took time; moments are nanoseconds of Unix time.

    Attributes:
        client: a request to an expert or the bridge, as the conventions see it.
    """

    name: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value]
    client: bool = False


class Spans(Protocol):
    """Writes spans and knows W3C trace contexts; one event loop's."""

    def told(self, headers: Mapping[str, str]) -> SpanContext | None:
        """Return the context that came with a request, None without a valid one."""

    def headers(self, context: SpanContext) -> dict[str, str]:
        """Return the headers that pass a context on."""

    def begin(self, parent: SpanContext | None) -> SpanContext:
        """Return the context of a new span; whether it is sampled is decided here."""

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
        """Write a span that is over, if it is sampled."""

    def close(self) -> None:
        """Send what waits; blocks for two seconds or a little more."""
