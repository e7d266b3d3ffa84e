"""The store on a Milvus cluster, or in Milvus Lite's folder for tests.

Owns the two Milvus collections of each of ours and the order of their writes. Milvus has no
transaction over them: a document's row names the edition of its passages, and passages of another
edition do not count. New passages are written first, then the rows of all documents in one request
(the moment of the write), then the old passages are removed. One bridge writes, any number read.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...base import FloatArray
from ..base import (
    Document,
    DocumentInfo,
    Key,
    Scored,
    StoredPassage,
    StoreError,
    StoreStats,
    StoreUnavailable,
    UnknownFilterKey,
    checked,
)
from ..filters import Filter, keys_of
from .filters import any_of, literal, to_expression
from .schema import (
    DOCUMENTS,
    IDENTITY,
    NAME_BYTES,
    PASSAGES,
    TITLE,
    MilvusAddress,
    has_titles,
    make_documents,
    make_passages,
    own_name,
)
from .words import searches, shares

TIMEOUT_S = 30.0
BATCH = 500
IDS_PER_REQUEST = 100
EF_SEARCH = 96
MAX_TEXT_BYTES = 65_535


class MilvusStore:
    """The passages of one collection. Thread-safe and blocking."""

    def __init__(
        self,
        address: MilvusAddress,
        name: str,
        model: str,
        dim: int,
        others: Mapping[str, int] | None = None,
    ) -> None:
        """Open the collection, or make it.

        Args:
            address: of the database.
            name: of our collection.
            model: name of a new collection's encoder; part of its identity.
            dim: length of its vectors.
            others: name and dimensions of encoders that it may be of as well.

        Raises:
            StoreUnavailable: the database does not answer.
            StoreError: pymilvus is missing, or the collection is of another encoder.
        """
        self._model, self._dim = model, dim
        self._passages, self._documents = PASSAGES + own_name(name), DOCUMENTS + own_name(name)
        self._writing = threading.Lock()
        self._known_keys: set[str] = set()
        self._writes, self._opened = 0, uuid.uuid4().hex[:8]
        self._lite = address.is_lite
        self._client = address.connect()
        with translated():
            make_documents(self._client, self._documents)
            self._identify(name, others or {})
            make_passages(self._client, self._passages, self._dim, address.is_lite)
            self._titles = has_titles(self._client, self._passages)

    def _identify(self, name: str, others: Mapping[str, int]) -> None:
        """Hold the encoder against the one that the collection was made with."""
        mine = {"model": self._model, "dim": self._dim}
        found = self._rows_of([IDENTITY])
        if not found:
            self._client.upsert(
                self._documents,
                [document_row(IDENTITY, "", "", "", 0, mine)],
                timeout=TIMEOUT_S,
            )
            return
        kept = found[IDENTITY]["metadata"]
        self._passages = kept.get("passages", self._passages)
        if (model := kept.get("model")) in others and kept.get("dim") == others[model]:
            self._model, self._dim = model, others[model]
        elif (model, kept.get("dim")) != (self._model, self._dim):
            raise StoreError(
                f"{name} holds vectors of {kept.get('model')} ({kept.get('dim')} dimensions), "
                f"the encoder is {self._model} ({self._dim})"
            )

    @property
    def model(self) -> str:
        """Name of the encoder."""
        return self._model

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self._dim

    @property
    def version(self) -> str:
        """Changes with every write acknowledged here; other bridges' writes are not in it."""
        return f"{self._model}-{self._opened}-{self._writes}"

    def upsert(self, documents: Sequence[Document]) -> None:
        """Store or replace documents; all of them or none. Returns when Milvus has them."""
        documents = checked(documents, self._dim)
        for document in documents:
            if document.id == IDENTITY:
                raise ValueError(f"document {IDENTITY!r}: this id is the store's own")
            for chunk in document.chunks:
                if (size := len(chunk.text.encode())) > MAX_TEXT_BYTES:
                    most = f"a passage of {size} bytes, the limit is {MAX_TEXT_BYTES}"
                    raise ValueError(f"document {document.id!r}: {most}")
        if not documents:
            return
        edition = uuid.uuid4().hex
        passages = [row for document in documents for row in self._rows(document, edition)]
        rows = [
            document_row(d.id, d.source, d.hash, edition, len(d.chunks), dict(d.metadata))
            for d in documents
        ]
        with self._writing, translated():
            try:
                for start in range(0, len(passages), BATCH):
                    portion = passages[start : start + BATCH]
                    self._client.insert(self._passages, portion, timeout=TIMEOUT_S)
            except BaseException:
                self._remove_quietly(f"edition == {literal(edition)}")
                raise
            # When this fails the rows may have been written all the same: the new passages stay,
            # and the next write of these documents removes those that no row names.
            self._client.upsert(self._documents, rows, timeout=TIMEOUT_S)
            self._writes += 1
            self._remove_older([document.id for document in documents], edition)

    def delete(self, ids: Sequence[str]) -> int:
        """Remove documents; returns how many there were."""
        ids = [one for one in dict.fromkeys(ids) if one != IDENTITY]
        with self._writing, translated():
            there = list(self._rows_of(ids))
            for some in portions_of(there):
                self._client.delete(self._documents, filter=any_of("id", some), timeout=TIMEOUT_S)
            self._writes += bool(there)
            self._remove_older(there, "")
        return len(there)

    def _remove_older(self, ids: Sequence[str], edition: str) -> None:
        """Remove what no row points at any more; what is left by a failure does not count."""
        for some in portions_of(ids):
            self._remove_quietly(f"{any_of('document', some)} and edition != {literal(edition)}")

    def _remove_quietly(self, expression: str) -> None:
        from pymilvus import MilvusException

        try:
            self._client.delete(self._passages, filter=expression, timeout=TIMEOUT_S)
        except MilvusException:  # the next write of the same documents removes it
            return

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the content hashes of those documents that are there."""
        with translated():
            return {name: str(row["hash"]) for name, row in self._rows_of(ids).items()}

    def documents(self, after: str, limit: int) -> list[DocumentInfo]:
        """Return up to ``limit`` documents with an id greater than ``after``, by id."""
        # A cluster answers in the order of the key, so that its first are the least; Lite does not.
        bound = {} if self._lite else {"limit": limit}
        with translated():
            found = self._client.query(
                self._documents,
                filter=f'id > {literal(after)} and edition != ""',
                output_fields=["id", "source", "hash", "passages", "metadata"],
                timeout=TIMEOUT_S,
                **bound,
            )
        rows = sorted(found, key=lambda row: str(row["id"]))[:limit]
        return [
            DocumentInfo(row["id"], row["source"], row["hash"], row["passages"], metadata_of(row))
            for row in rows
        ]

    def dense(self, vector: FloatArray, k: int, where: Filter | None = None) -> list[Scored]:
        """Return the k nearest passages with their cosines, best first."""
        if vector.shape != (self._dim,):
            raise ValueError(f"vector has shape {vector.shape}, need ({self._dim},)")
        options: dict[str, object] = {"metric_type": "COSINE", "params": {"ef": max(EF_SEARCH, k)}}
        (found,) = self._search("vector", [vector.tolist()], k, where, options)
        return [(hit["key"], float(hit["distance"])) for hit in found]

    def sparse(self, query: str, k: int, where: Filter | None = None) -> list[Scored]:
        """Return the k passages that match the words best; see ``PassageStore.sparse``."""
        texts = searches(query)
        if not texts:
            return []
        found, *alone = self._search("words", texts, k, where, {"metric_type": "BM25"})
        return shares(found, alone)

    def _search(
        self, field: str, data: list[Any], k: int, where: Filter | None, options: dict[str, object]
    ) -> list[list[Any]]:
        with translated():
            if where is not None:
                self._check_keys(where)
            found = self._client.search(
                self._passages,
                data=data,
                anns_field=field,
                limit=k,
                filter="" if where is None else to_expression(where),
                search_params=options,
                timeout=TIMEOUT_S,
            )
        return [list(hits) for hits in found]

    def _check_keys(self, where: Filter) -> None:
        """Raise UnknownFilterKey for a key that no document has."""
        for key in keys_of(where):
            if key not in self._known_keys:
                has = f"exists metadata[{literal(key)}]"
                found = self._client.query(
                    self._passages, filter=has, output_fields=["key"], limit=1, timeout=TIMEOUT_S
                )
                if not found:
                    raise UnknownFilterKey(key)
                self._known_keys.add(key)

    def cosines(self, vector: FloatArray, keys: Sequence[Key]) -> dict[Key, float]:
        """Return the cosines of those passages that are still there."""
        if not keys:
            return {}
        with translated():
            rows = self._client.query(
                self._passages,
                filter=any_of("key", [str(key) for key in keys]),
                output_fields=["key", "vector"],
                timeout=TIMEOUT_S,
            )
        return {row["key"]: float(np.asarray(row["vector"], np.float32) @ vector) for row in rows}

    def passages(self, keys: Sequence[Key]) -> dict[Key, StoredPassage]:
        """Return the passages that are still there."""
        if not keys:
            return {}
        with translated():
            rows = self._client.query(
                self._passages,
                filter=any_of("key", [str(key) for key in keys]),
                output_fields=["key", "id", "document", "edition", "source", "text", "hash",
                               "tokens", "metadata", *((TITLE,) if self._titles else ())],
                timeout=TIMEOUT_S,
            )  # fmt: skip
            valid = self._rows_of(sorted({str(row["document"]) for row in rows}))
        found: dict[Key, StoredPassage] = {}
        for row in rows:
            document = valid.get(row["document"])
            if document is not None and document["edition"] == row["edition"]:
                found[row["key"]] = StoredPassage(
                    row["id"], row["document"], row["source"], row["text"], row["hash"],
                    row["tokens"], metadata_of(row), row.get(TITLE, ""),
                )  # fmt: skip
        return found

    def stats(self) -> StoreStats:
        """Return the counts."""
        with translated():
            documents, passages = (
                self._client.query(name, filter="", output_fields=["count(*)"], timeout=TIMEOUT_S)[
                    0
                ]["count(*)"]
                for name in (self._documents, self._passages)
            )
        return StoreStats(
            documents=documents - 1,  # without the row of the collection's identity
            passages=passages,
            dim=self._dim,
            model=self._model,
            version=self.version,
            method="milvus",
        )

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._client.close()

    def _rows(self, document: Document, edition: str) -> Iterator[dict[str, object]]:
        for place, chunk in enumerate(document.chunks):
            yield {
                "key": f"{edition}-{document.id}-{place}",
                "id": chunk.id,
                "document": document.id,
                "edition": edition,
                "source": document.source,
                "text": chunk.text,
                "hash": chunk.hash,
                "tokens": chunk.tokens,
                "metadata": dict(document.metadata),
                "vector": np.asarray(document.vectors[place], np.float32).tolist(),
                **({TITLE: _fitting(chunk.title)} if self._titles else {}),
            }

    def _rows_of(self, ids: Sequence[str]) -> dict[str, Any]:
        """Return the rows of those documents that are there, by id."""
        found: dict[str, Any] = {}
        for some in portions_of(ids):
            rows = self._client.query(
                self._documents,
                filter=any_of("id", some),
                output_fields=["id", "hash", "edition", "metadata"],
                timeout=TIMEOUT_S,
            )
            found |= {str(row["id"]): row | {"metadata": metadata_of(row)} for row in rows}
        return found


def collection_names(address: MilvusAddress) -> list[str]:
    """Return the names of our collections there. Raises StoreUnavailable."""
    client = address.connect()
    try:
        with translated():
            found = client.list_collections(timeout=TIMEOUT_S)
    finally:
        client.close()
    # "-" is no character of a name in Milvus, and "D" none of ours.
    own = (name.removeprefix(DOCUMENTS) for name in found if name.startswith(DOCUMENTS))
    return sorted(name.replace("D", "-") for name in own)


def _fitting(title: str) -> str:
    """Return the end of a title that a field takes: the headings nearest to the passage."""
    return title.encode()[-NAME_BYTES:].decode(errors="ignore")


def document_row(
    name: str, source: str, hashed: str, edition: str, passages: int, metadata: dict[str, Any]
) -> dict[str, object]:
    """Return a row of the collection of documents."""
    return {
        "id": name,
        "source": source,
        "hash": hashed,
        "edition": edition,
        "passages": passages,
        "metadata": metadata,
        "unused": [1.0, 0.0],
    }


def metadata_of(row: Any) -> dict[str, Any]:
    """Return the metadata of a row."""
    found = row["metadata"]
    return dict(json.loads(found) if isinstance(found, str | bytes) else found)


def portions_of(ids: Sequence[str]) -> Iterator[list[str]]:
    """Yield the ids, as many at a time as one request takes."""
    for start in range(0, len(ids), IDS_PER_REQUEST):
        yield list(ids[start : start + IDS_PER_REQUEST])


@contextmanager
def translated() -> Iterator[None]:
    """Raise StoreUnavailable for what Milvus raises; its messages may quote texts."""
    from pymilvus import MilvusException

    try:
        yield
    except MilvusException as exc:
        raise StoreUnavailable(f"the vector database failed (code {exc.code})") from None
