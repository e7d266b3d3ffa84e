"""What belongs together: the keys that the orchestrator sets, and how keys become replicas.

Requests of one key stay on one replica, because its prefix cache knows them. Keys are whatever a
caller says; what leaves this process is an id, never a mail address.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextvars import ContextVar
from hashlib import sha256

affinity_key: ContextVar[str | None] = ContextVar("livemind_affinity_key", default=None)
"""Of the conversation whose requests are made; None = its prompt's beginning."""

shared_prefix: ContextVar[str | None] = ContextVar("livemind_shared_prefix", default=None)
"""What stands for a long beginning that many conversations have in common; None = nothing."""

LONG_PREFIX_CHARS = 1024
"""A shared beginning is worth a detour where computing it takes longer than the detour."""
READ_CHARS = 16_384
_IS_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def ranked(nodes: Sequence[str], key: str) -> list[str]:
    """Return the nodes in the order in which they are responsible for ``key``.

    When a node goes, only its own keys move, each to the node that was next in its order
    (rendezvous hashing, Thaler and Ravishankar 1996).
    """
    if len(nodes) == 1:
        return list(nodes)
    return sorted(nodes, key=lambda node: sha256(f"{key}\0{node}".encode()).digest(), reverse=True)


def digest(*parts: str) -> str:
    """Return 32 hexadecimal digits for these texts in order: of long ones beginning and length."""
    told = "\0".join(f"{len(part)} {part[:READ_CHARS]}" for part in parts)
    return sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def sent(key: str) -> str:
    """Return a key as servers are told it: itself where it is an id, else what stands for it."""
    return key if _IS_ID.fullmatch(key) else digest(key)


def prefix_of(instructions: str | None) -> str | None:
    """Return what stands for instructions, None where they are too short to matter."""
    if instructions is None or len(instructions) < LONG_PREFIX_CHARS:
        return None
    return digest(instructions)
