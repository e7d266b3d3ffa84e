"""The documents that retrieval finds, as the harness knows them.

The bridge is asked, untimed, what it finds for a finished question: these documents go to the arms
that get theirs with the request. What a live turn used is reconstructed from its events by the
orchestrator's own rules for freezing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..orchestrator import documents
from ..rag.base import Passage, RetrievalResult
from ..rag.client import BridgeClient
from ..rag.corpus import read_corpus
from .answer import Answer

_DEADLINE_MS = 5000.0
Used = tuple[tuple[str, ...], tuple[str, ...]]
"""Texts before and behind the user's."""


class Library:
    """One corpus behind one bridge.

    Args:
        folder: the corpus that the bridge serves.
        bridge: asks that bridge with the server's own number of passages.
    """

    def __init__(self, folder: Path, bridge: BridgeClient) -> None:
        self._passages = {
            p.id: Passage(p.id, p.source, p.text, 0.0) for p in read_corpus(folder).passages
        }
        self._bridge = bridge
        self._asked = 0

    async def found(self, question: str) -> tuple[str, ...]:
        """Return the texts for a whole question, best first; empty when the bridge fails."""
        self._asked += 1
        result = await self._bridge.retrieve(
            question.strip(),
            revision=1,
            partial=False,
            deadline_ms=_DEADLINE_MS,
            session_id=f"bench-library-{self._asked}",
        )
        return tuple(passage.text for passage in result.passages)

    def used(self, answer: Answer) -> tuple[Used, ...]:
        """Return the documents that a live turn may have been answered with; empty = not known.

        Whether a set was frozen anew depends on a cost that only the server knows: both ways count.
        """
        found = (self._used(answer, ms_per_token) for ms_per_token in (None, 0.0))
        return tuple(dict.fromkeys(used for used in found if used is not None))

    def _used(self, answer: Answer, ms_per_token: float | None) -> Used | None:
        state = documents.DocumentState()
        for event in answer.of_type("retrieval.updated"):
            ids = [passage["id"] for passage in event["passages"]]
            if not all(name in self._passages for name in ids):
                return None
            passages = tuple(self._passages[name] for name in ids)
            result = RetrievalResult(event["revision"], passages, event["degraded"])
            state = documents.observe(state, "seen", result, ms_per_token)
        front, late = documents.chosen(state)
        return _texts(front), _texts(late)


def _texts(passages: Sequence[Passage]) -> tuple[str, ...]:
    return tuple(passage.text for passage in passages)
