"""When a request or a frame came in: where the clock of a turn that it commits begins."""

from __future__ import annotations

from contextvars import ContextVar

arrived_s: ContextVar[float | None] = ContextVar("livemind_arrived_s", default=None)
"""Of what the current task is at work on, by the event loop's clock; None = nobody looked."""
