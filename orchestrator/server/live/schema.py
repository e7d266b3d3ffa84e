"""What a live session can be told, over the WebSocket and over plain HTTP alike."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from ...turn.documents import Consistency
from ...turn.values import Mode, OnCold, TranscriptsEqual
from ..consensus_schema import ConsensusField
from ..content import refusal
from ..schema import INT64_MAX, MAX_DOCUMENTS, CacheSalt, Sampling, check_length
from ..strict import Strict


class InputConfig(Strict):
    """Where the text of a session comes from; only the given fields change."""

    kind: Literal["auto", "typed", "transcript"] | None = None
    transcripts_equal: TranscriptsEqual | None = None


class SessionConfig(Strict):
    """``session.update`` and ``POST /v1/live/sessions``; only the given fields change."""

    model: str | None = Field(None, min_length=1, max_length=256)
    expert: str | None = Field(None, min_length=1, max_length=256)
    instructions: str | None = None
    consensus: ConsensusField = None
    speculation: Mode | None = None
    retrieval: bool | None = None
    on_cold: OnCold | None = None
    sampling: Sampling | None = None
    documents: list[str] | None = Field(None, max_length=MAX_DOCUMENTS)
    cache_salt: CacheSalt | None = None
    input: InputConfig | None = None
    consistency: Consistency | None = None

    @model_validator(mode="after")
    def _check_config(self, info: ValidationInfo) -> Self:
        if None not in (self.model, self.expert) and self.model != self.expert:
            raise refusal("invalid_value", "expert", "differs from model; give one of them")
        check_length(info, "instructions", [self.instructions or ""])
        check_length(info, "documents", self.documents or [])
        return self


class SessionInput(Strict):
    """``PUT /v1/live/sessions/{id}/input``: the whole text so far."""

    text: str
    revision: int | None = Field(None, ge=0, le=INT64_MAX)

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        check_length(info, "text", [self.text])
        return self
