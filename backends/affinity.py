"""Which session the current task works for, so that a remote expert can keep it on one server."""

from __future__ import annotations

from contextvars import ContextVar

affinity_key: ContextVar[str | None] = ContextVar("livemind_affinity_key", default=None)
