"""What travels between the bridge and its clients: one question, one answer.

Owns names, types and limits of the fields. The bridge refuses what does not fit; the client ignores
fields that a newer bridge may add to an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .base import Passage
from .store.filters import Filter

MAX_QUERY_CHARS = 8_000
MAX_TOP_K = 50
MAX_DEADLINE_MS = 60_000.0
MAX_KNOWN = 256
MAX_DOCUMENTS = 256
MAX_NAME_CHARS = 512
OVERLOADED = "overloaded"
"""A reason in ``degraded`` begins with it when the bridge did not search at all."""

Name = Annotated[str, Field(min_length=1, max_length=128)]
Format = Literal["md", "txt", "html", "pdf", "rst", "py", "docx", "epub", "csv", "json", "jsonl"]
Hash = Annotated[str, Field(min_length=1, max_length=64)]
MetaKey = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_.\-]*$")]
MetaText = Annotated[str, Field(max_length=512)]


class RetrieveRequest(BaseModel):
    """Body of ``POST /v1/retrieve``.

    Attributes:
        query: the text so far; at least one character that is not white space.
        collection: where to look.
        mode: by vectors, by words, or by both, whose scores are added.
        filter: over metadata, ``document_id`` and ``source``; as OpenAI's vector stores have it.
        min_score: passages with a lower cosine are left out; None = the threshold that was
            calibrated for the collection's encoder, unless most of the question's words are there.
        known: hashes of texts that the caller has; they come back without text.
        revision: of the query within its session; a newer one supersedes the older ones.
        partial: whether the text is still growing; only a final query is reranked.
        deadline_ms: time left to the caller when it sent the request.
        request_id: repeated in the answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARS)
    session_id: Name
    revision: int = Field(ge=0, lt=2**63)
    collection: Name = "default"
    mode: Literal["dense", "sparse", "hybrid"] = "hybrid"
    filter: Filter | None = None
    top_k: int = Field(default=3, ge=1, le=MAX_TOP_K)
    min_score: float | None = Field(default=0.0, ge=-1.0, le=1.0)
    known: Annotated[list[Hash], Field(max_length=MAX_KNOWN)] = Field(default_factory=list)
    partial: bool = False
    deadline_ms: float = Field(default=1_000.0, gt=0.0, le=MAX_DEADLINE_MS)
    request_id: Name | None = None

    @field_validator("query")
    @classmethod
    def _has_a_character(cls, query: str) -> str:
        if not query.strip():
            raise ValueError("the text is empty")
        return query


class Scores(BaseModel):
    """A result's value in each ranking: cosine, share of the words; None = not in it."""

    model_config = ConfigDict(frozen=True)

    dense: float | None = None
    sparse: float | None = None
    rerank: float | None = None


class RetrievedText(BaseModel):
    """One result; ``rank`` counts from 1, best first; ``text`` is None when the caller has it.

    ``title``: the headings that its text stands below, empty without any.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    source: str
    text: str | None
    score: float
    rank: int
    document_id: str = ""
    hash: str = ""
    tokens: int = 0
    scores: Scores = Scores()
    metadata: Mapping[str, str | int | float | bool] = Field(default_factory=dict)
    title: str = ""


class RetrieveTimings(BaseModel):
    """Milliseconds of each stage; None = not run or not finished."""

    model_config = ConfigDict(frozen=True)

    embed: float | None = None
    dense: float | None = None
    sparse: float | None = None
    passages: float | None = None
    rerank: float | None = None
    total: float | None = None


class RetrieveAnswer(BaseModel):
    """Answer of ``POST /v1/retrieve``.

    Attributes:
        index_version: changes whenever passages or the encoder do.
        degraded: reasons why the results are incomplete; empty = complete.
        provisional: the query was partial; a final one is reranked and may give others.
    """

    model_config = ConfigDict(frozen=True)

    revision: int
    index_version: str
    results: tuple[RetrievedText, ...]
    degraded: tuple[str, ...] = ()
    provisional: bool = False
    timings_ms: RetrieveTimings = RetrieveTimings()
    request_id: str | None = None

    @property
    def overloaded(self) -> bool:
        """Whether the bridge had no time to search; another may have."""
        return not self.results and any(why.startswith(OVERLOADED) for why in self.degraded)

    def passages(self, known: Mapping[str, str] | None = None) -> tuple[Passage, ...]:
        """Return the results as LiveMind's own values; ``known`` has the texts left out, by hash.

        Raises:
            KeyError: a text was left out that is not known.
        """
        known = known or {}
        return tuple(
            Passage(r.id, r.source, known[r.hash] if r.text is None else r.text, r.score, r.title)
            for r in self.results
        )


class SearchRequest(BaseModel):
    """Body of ``POST /v1/vector_stores/{id}/search``, as OpenAI defines it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    class Ranking(BaseModel):
        """Only the threshold has an effect: the bridge's ranker is its own."""

        model_config = ConfigDict(extra="forbid", frozen=True)

        ranker: Literal["auto", "none"] = "auto"
        score_threshold: float = Field(default=0.0, ge=0.0, le=1.0)

    query: Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARS)]
    max_num_results: int = Field(default=10, ge=1, le=MAX_TOP_K)
    filters: Filter | None = None
    ranking_options: Ranking = Ranking()
    rewrite_query: Literal[False] = False


class DocumentBody(BaseModel):
    """A document to store: ``text``, or ``data`` (base64, for PDF and archives)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    id: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
    source: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)] | None = None
    format: Format | None = None
    text: str | None = None
    data: str | None = None
    metadata: Annotated[dict[MetaKey, MetaText | bool | int | float], Field(max_length=16)] = Field(
        default_factory=dict
    )

    @field_validator("id", "source")
    @classmethod
    def _stays_inside(cls, name: str | None) -> str | None:
        if name is not None and (
            name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/")
        ):
            raise ValueError("must be a relative path without '..'")
        if name is not None and not name.isprintable():
            raise ValueError("must be printable text")
        return name


class UpsertRequest(BaseModel):
    """Body of ``POST /v1/collections/{name}/documents``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    documents: Annotated[list[DocumentBody], Field(min_length=1, max_length=MAX_DOCUMENTS)]


class DeleteRequest(BaseModel):
    """Body of ``DELETE /v1/collections/{name}/documents``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    ids: Annotated[
        list[Annotated[str, Field(max_length=512)]], Field(min_length=1, max_length=1000)
    ]
