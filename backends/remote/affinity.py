"""Which replica a session belongs to: rendezvous hashing on a key that the orchestrator sets."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from hashlib import sha256

affinity_key: ContextVar[str | None] = ContextVar("livemind_affinity_key", default=None)
"""The session's id while its requests are made; None = spread by the prompt's beginning."""


def ranked(nodes: Sequence[str], key: str) -> list[str]:
    """Return the nodes in the order in which they are responsible for ``key``.

    When a node goes, only its own keys move, each to the node that was next in its order.
    """
    if len(nodes) == 1:
        return list(nodes)
    return sorted(nodes, key=lambda node: sha256(f"{key}\0{node}".encode()).digest(), reverse=True)
