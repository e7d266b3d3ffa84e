"""Responses that are kept, so that later ones can go on from them; the oldest leave first.

Owns the store, its bounds, and who is being written. For one event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from msgspec import json

from ....errors import Conflict, NotFound

Json = dict[str, Any]


@dataclass(slots=True)
class Kept:
    """A response.

    Attributes:
        payload: as clients see it.
        items: of its input, as they came.
        messages: of the whole conversation, its answer included, as chat completions have them;
            without instructions.
        owner: whose key asked for it; None where there are no keys.
    """

    payload: Json
    items: list[Json]
    messages: list[Json]
    owner: str | None

    @property
    def id(self) -> str:
        """Of the response."""
        return str(self.payload["id"])


class ResponseStore:
    """The newest responses.

    Args:
        most: responses that are kept at a time; 0 = none.
        most_bytes: of all of them together, as JSON.
    """

    def __init__(self, most: int = 0, most_bytes: int = 0) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, tuple[Kept, int]] = OrderedDict()
        self._writing: dict[str, tuple[Kept, asyncio.Task[object]]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, kept: Kept) -> None:
        """Keep a response; the oldest leave where there is no room."""
        size = len(json.encode((kept.payload, kept.items, kept.messages)))
        self._forget(kept.id)
        self._kept[kept.id] = (kept, size)
        self._bytes += size
        while self._kept and (len(self._kept) > self._most or self._bytes > self._most_bytes):
            self._forget(next(iter(self._kept)))

    def get(self, response_id: str, owner: str | None, param: str = "response_id") -> Kept:
        """Return a response of this owner.

        Raises:
            Conflict: it is still being written.
            NotFound: there is none, or none any more.
        """
        kept, _ = self._kept.get(response_id, (None, 0))
        if kept is None and self.unfinished(response_id, owner) is not None:
            message = f"{param}: the response is still being written"
            code = "response_in_progress"
            raise Conflict(message, param=param, code=code, retry_after_s=1.0)
        if kept is None or kept.owner != owner:
            message = f"{param}: no such response is kept (server.max_stored_responses)"
            raise NotFound(message, param=param, code="response_not_found")
        return kept

    def unfinished(self, response_id: str, owner: str | None) -> Kept | None:
        """Return a response of this owner that is being written, as far as it is; None: none is."""
        kept, _ = self._writing.get(response_id, (None, None))
        return kept if kept is not None and kept.owner == owner else None

    def delete(self, response_id: str, owner: str | None) -> None:
        """Forget a response of this owner.

        Raises:
            NotFound: there is none.
        """
        self.get(response_id, owner)
        self._forget(response_id)

    @contextmanager
    def writing(self, kept: Kept) -> Iterator[None]:
        """Let the current task be found by ``cancel`` inside this block."""
        task = asyncio.current_task()
        assert task is not None
        self._writing[kept.id] = (kept, task)
        try:
            yield
        finally:
            del self._writing[kept.id]

    async def cancel(self, response_id: str, owner: str | None) -> Json | None:
        """Stop a response that is being written, and return it; None: none of this owner is.

        Its task has ended when this returns.
        """
        kept, task = self._writing.get(response_id, (None, None))
        if kept is None or task is None or kept.owner != owner:
            return None
        task.cancel()
        await asyncio.wait([task])
        kept.payload["status"] = "cancelled"
        return kept.payload

    def _forget(self, response_id: str) -> None:
        _, size = self._kept.pop(response_id, (None, 0))
        self._bytes -= size
