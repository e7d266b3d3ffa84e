"""Routers that stand in front of engines: the headers by which each keeps a conversation together.

Where a header comes from stands beside it; ``docs/experts.md`` says how each router is set up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from ..spec import RouterName

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
RESERVED_HEADERS = re.compile(
    "authorization|connection|content-.*|cookie|host|set-cookie|te|transfer-encoding|upgrade",
    re.IGNORECASE,
)
"""Headers that say something else of a request or an answer."""


class RouterHeaders(Struct, frozen=True):
    """How a router is told what belongs together.

    Attributes:
        key: request headers that carry the conversation's key.
        tokens: headers that the router answers with and wants back in the next request.
        fixed: headers of every request.
    """

    key: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    fixed: Mapping[str, str] = {}


UNKNOWN = RouterHeaders(("X-Session-Id",))
"""No router, or one that is not named: what most look at, and nobody minds."""

ROUTERS: Mapping[RouterName, RouterHeaders] = {
    # ray 2.60.0, ray/serve/_private/constants.py: RAY_SERVE_SESSION_ID_HEADER_KEY
    "ray-serve-llm": RouterHeaders(("X-Session-Id",)),
    # production-stack 0.1, routing_logic.py: any header, named by --session-key; as in its scripts
    "vllm-production-stack": RouterHeaders(("X-User-Id",)),
    # llm-d-router, scorer/sessionaffinity: a pod's name, encoded, from the answer before
    "llm-d": RouterHeaders((), ("X-Session-Token", "X-Session-Token-Prefill")),
    # Dynamo 1.6.1, docs/agents: --router-session-affinity-ttl-secs
    "dynamo": RouterHeaders(("X-Dynamo-Session-Id",)),
    # AIBrix 0.7 and later, simple_session_affinity.go: there X-Session-Id is a pod's address
    "aibrix": RouterHeaders(
        ("X-Aibrix-Session-Key",), ("X-Session-Id",), {"Routing-Strategy": "session-affinity"}
    ),
    # sgl-model-gateway, policies/manual.rs and consistent_hashing.rs
    "sglang": RouterHeaders(("X-SMG-Routing-Key",)),
}


def headers_of(
    router: RouterName | None,
    key: tuple[str, ...] | None = None,
    tokens: tuple[str, ...] | None = None,
) -> RouterHeaders:
    """Return a router's headers; ``key`` and ``tokens`` stand in for its own where given."""
    known = UNKNOWN if router is None else ROUTERS[router]
    return RouterHeaders(
        known.key if key is None else key,
        known.tokens if tokens is None else tokens,
        known.fixed,
    )
