"""The key of a conversation: what its caller says, else what it begins with.

Requests of one key stay on the server of a remote expert that knows their prefix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile

from ...backends.remote.affinity import digest
from ..config.server import HEADER_PREFIX
from ..fairness.asker import asker


def told_key(
    sources: Sequence[str], headers: Mapping[str, str], fields: Mapping[str, str | None]
) -> str | None:
    """Return the key that a caller gives, None where there is none.

    Args:
        sources: ``server.affinity_from``.
        headers: of the request.
        fields: ``session``, ``prompt_cache_key``, ``user`` and ``live_session``, as far as given.
    """
    for source in sources:
        if source.startswith(HEADER_PREFIX):
            found = headers.get(source.removeprefix(HEADER_PREFIX))
        else:
            found = fields.get(source)
        if found is not None and (key := found.strip()):
            return key
    return None


def session_key(sources: Sequence[str], headers: Mapping[str, str]) -> str | None:
    """Return the key of a live session, None where that is its own id.

    ``sources``, ``headers``: as in ``told_key``; what comes after ``live_session`` does not count.
    """
    return told_key(list(takewhile(lambda source: source != "live_session", sources)), headers, {})


def conversation_key(instructions: str | None, first_text: str) -> str:
    """Return what stands for a conversation by its beginning, which its later turns share.

    Those of different API keys differ: their prefix caches are apart.
    """
    who = asker.get()
    return digest("" if who is None else who.owner, instructions or "", first_text)
