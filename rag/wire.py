"""What travels between the bridge and its clients: one question, one answer.

Owns names, types and limits of the fields. The bridge refuses what does not fit; the client ignores
fields that a newer bridge may add to an answer.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .base import Passage

MAX_QUERY_CHARS = 8_000
MAX_TOP_K = 50
MAX_DEADLINE_MS = 60_000.0

Name = Annotated[str, Field(min_length=1, max_length=128)]


class RetrieveRequest(BaseModel):
    """Body of ``POST /v1/retrieve``.

    Attributes:
        query: the text so far; at least one character that is not white space.
        min_score: passages with a lower cosine are left out.
        revision: of the query within its session; a newer one supersedes the older ones.
        partial: whether the text is still growing.
        deadline_ms: time left to the caller when it sent the request.
        request_id: repeated in the answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARS)
    session_id: Name
    revision: int = Field(ge=0, lt=2**63)
    top_k: int = Field(default=3, ge=1, le=MAX_TOP_K)
    min_score: float = Field(default=0.0, ge=-1.0, le=1.0)
    partial: bool = False
    deadline_ms: float = Field(default=1_000.0, gt=0.0, le=MAX_DEADLINE_MS)
    request_id: Name | None = None

    @field_validator("query")
    @classmethod
    def _has_a_character(cls, query: str) -> str:
        if not query.strip():
            raise ValueError("the text is empty")
        return query


class RetrievedText(BaseModel):
    """One result; ``rank`` counts from 1, best first."""

    model_config = ConfigDict(frozen=True)

    id: str
    source: str
    text: str
    score: float
    rank: int


class RetrieveTimings(BaseModel):
    """Milliseconds of each stage; None = not finished."""

    model_config = ConfigDict(frozen=True)

    embed: float | None = None
    search: float | None = None


class RetrieveAnswer(BaseModel):
    """Answer of ``POST /v1/retrieve``.

    Attributes:
        index_version: changes whenever passages or the encoder do.
        degraded: reasons why the results are incomplete; empty = complete.
    """

    model_config = ConfigDict(frozen=True)

    revision: int
    index_version: str
    results: tuple[RetrievedText, ...]
    degraded: tuple[str, ...] = ()
    timings_ms: RetrieveTimings = RetrieveTimings()
    request_id: str | None = None

    def passages(self) -> tuple[Passage, ...]:
        """Return the results as LiveMind's own values."""
        return tuple(Passage(r.id, r.source, r.text, r.score) for r in self.results)
