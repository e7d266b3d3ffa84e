"""The documents that retrieval finds, as the harness knows them.

The bridge is asked, untimed, what it finds for a finished question: these documents go to the arms
that get theirs with the request. What a live turn used is named by the end of its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...rag.base import Passage
from ...rag.client.client import BridgeClient
from ...rag.documents.corpus import read_corpus
from ..figures.answer import Answer

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

    def used(self, answer: Answer) -> Used | None:
        """Return the documents that a live turn was answered with; None = not known."""
        named = answer.documents
        if named is None or not {*named["before"], *named["behind"]} <= self._passages.keys():
            return None
        return self._texts(named["before"]), self._texts(named["behind"])

    def _texts(self, ids: Sequence[str]) -> tuple[str, ...]:
        return tuple(self._passages[name].text for name in ids)
