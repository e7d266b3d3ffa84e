"""Headers that requests to remote experts carry beyond their own: a trace's context, for example.

Whoever begins a turn sets what returns them; they are read when a request is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar

carried_headers: ContextVar[Callable[[], Mapping[str, str]]] = ContextVar(
    "livemind_carried_headers", default=dict
)
