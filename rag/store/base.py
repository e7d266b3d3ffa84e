"""The seam between the bridge and what keeps its passages.

Owns the values and the protocol. Stores are blocking and thread-safe; the bridge calls them from
its own threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np

from ..base import FloatArray
from ..documents.chunking import Chunk
from .filters import Filter

Key: TypeAlias = int | str
"""Names a passage inside one store; means nothing outside."""

Scored: TypeAlias = tuple[Key, float]
MetaValue: TypeAlias = str | int | float | bool
Metadata: TypeAlias = Mapping[str, MetaValue]


class StoreError(Exception):
    """The store cannot do it; the message is fit to be shown."""


class StoreUnavailable(StoreError):
    """The database does not answer or cannot write now, as on a full disk; retryable."""


class StoreReadOnly(StoreError):
    """The store can be searched and not be written."""


class UnknownFilterKey(StoreError):
    """A filter names a metadata key that no document of the collection has."""

    def __init__(self, key: str) -> None:
        super().__init__(f"filter: no document has the key {key[:64]!r}")
        self.key = key


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it is stored.

    Attributes:
        id: unique in the collection.
        source: as shown to users.
        hash: of its content; equal hash, same passages.
        chunks: its passages in reading order.
        vectors: float32 (len(chunks), dim), unit rows.
    """

    id: str
    source: str
    hash: str
    chunks: tuple[Chunk, ...]
    vectors: FloatArray
    metadata: Metadata = field(default_factory=dict)


def checked(documents: Iterable[Document], dim: int) -> list[Document]:
    """Return the documents to store: of those with one id the last.

    Raises:
        ValueError: a chunk has no vector of ``dim`` numbers and length 1.
    """
    last = {document.id: document for document in documents}
    for document in last.values():
        _check(document, dim)
    return list(last.values())


def _check(document: Document, dim: int) -> None:
    vectors = document.vectors
    if vectors.shape != (len(document.chunks), dim):
        need = (len(document.chunks), dim)
        raise ValueError(f"document {document.id!r}: vectors {vectors.shape}, need {need}")
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    if not (np.abs(lengths - 1.0) < 1e-2).all():
        raise ValueError(f"document {document.id!r}: a vector is not of length 1")


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """What a listing says of a document."""

    id: str
    source: str
    hash: str
    passages: int
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A passage as it was stored.

    ``title``: its headings; empty in collections of versions that kept none.
    """

    id: str
    document_id: str
    source: str
    text: str
    hash: str
    tokens: int
    metadata: Metadata
    title: str = ""


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Counts of a collection; ``method`` is ``exact`` or ``hnsw`` or the database's own."""

    documents: int
    passages: int
    dim: int
    model: str
    version: str
    method: str
    deleted_rows: int = 0


class PassageStore(Protocol):
    """Keeps the passages of one collection. Thread-safe and blocking."""

    @property
    def model(self) -> str:
        """Name of the encoder that the vectors are of."""
        ...

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        ...

    @property
    def version(self) -> str:
        """Changes with every acknowledged write."""
        ...

    def upsert(self, documents: Sequence[Document]) -> None:
        """Store or replace documents; all of them or none. Returns when they are durable.

        Raises:
            ValueError: a vector has another length, or is not finite.
        """
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """Remove documents; returns how many there were. Returns when that is durable."""
        ...

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the content hashes of those documents that are there."""
        ...

    def documents(self, after: str, limit: int) -> list[DocumentInfo]:
        """Return up to ``limit`` documents with an id greater than ``after``, by id."""
        ...

    def dense(self, vector: FloatArray, k: int, where: Filter | None = None) -> list[Scored]:
        """Return the k nearest passages with their cosines, best first.

        Raises:
            ValueError: the vector has another length.
            UnknownFilterKey: see there.
        """
        ...

    def sparse(self, query: str, k: int, where: Filter | None = None) -> list[Scored]:
        """Return the k passages that match the words best by BM25, best first.

        Each with its share: its BM25 score divided by what a passage that has every word of the
        query once would get; above 1 where it repeats them or is short.
        """
        ...

    def cosines(self, vector: FloatArray, keys: Sequence[Key]) -> dict[Key, float]:
        """Return the cosines of those passages that are still there."""
        ...

    def passages(self, keys: Sequence[Key]) -> dict[Key, StoredPassage]:
        """Return the passages that are still there."""
        ...

    def stats(self) -> StoreStats:
        """Return the counts."""
        ...

    def close(self) -> None:
        """Release files and connections. Idempotent."""
        ...
