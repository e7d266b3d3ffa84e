"""A Milvus collection's vectors made anew by another encoder, in portions that outlive the process.

Passages with new vectors go into a collection of their own. The row that says which encoder ours is
of says where they are, too: writing it is the moment of the change. What was done before a kill is
not done again. Nobody may write meanwhile; bridges that have the collection open start anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from ...base import Embedder
from ..base import StoreError
from .filters import any_of
from .schema import (
    DOCUMENTS,
    IDENTITY,
    PASSAGES,
    TITLE,
    MilvusAddress,
    has_titles,
    make_passages,
    own_name,
)
from .store import BATCH, TIMEOUT_S, document_row, metadata_of, portions_of, translated

REBUILT = "livemind_r_"
PORTION = 64
_FIELDS = ("key", "id", "document", "edition", "source", "text", "hash", "tokens", "metadata")


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the documents, the passages and their new copies are."""

    documents: str
    old: str
    new: str


def rebuild(
    address: MilvusAddress,
    name: str,
    embedder: Embedder,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Give every passage of a collection a vector of this encoder; blocks, minutes at 100k.

    Args:
        address: of the database.
        name: of our collection; nobody may write to it meanwhile.
        embedder: of passages.
        advance: told how many passages of how many have their new vector.

    Returns:
        How many passages were encoded now; 0 when the collection is of this encoder already.

    Raises:
        StoreError: no such collection.
        StoreUnavailable: the database does not answer.
        EmbedderError: the encoder failed; what was done stays.
    """
    client = address.connect()
    try:
        with translated():
            documents = DOCUMENTS + own_name(name)
            if not client.has_collection(documents, timeout=TIMEOUT_S):
                raise StoreError(f"{name}: no such collection in the database")
            client.load_collection(documents, timeout=TIMEOUT_S)
            row = client.query(
                documents, filter=any_of("id", [IDENTITY]), output_fields=["metadata"],
                timeout=TIMEOUT_S,
            )  # fmt: skip
            kept = metadata_of(row[0]) if row else {}
            old = kept.get("passages", PASSAGES + own_name(name))
            if kept.get("model") == embedder.name:
                _drop_all_but(client, name, old)  # what a kill or a failure has left
                return 0
            digest = sha256(embedder.name.encode()).hexdigest()[:12]
            places = _Places(documents, old, f"{REBUILT}{own_name(name)}_{digest}")
            client.load_collection(places.old, timeout=TIMEOUT_S)
            make_passages(client, places.new, embedder.dim, address.is_lite)
            encoded = _encode(client, places, embedder, advance)
            identity = {"model": embedder.name, "dim": embedder.dim, "passages": places.new}
            changed = document_row(IDENTITY, "", "", "", 0, identity)
            client.upsert(documents, [changed], timeout=TIMEOUT_S)  # the moment of the change
            _drop_all_but(client, name, places.new)
        return encoded
    finally:
        client.close()


def _encode(
    client: Any, places: _Places, embedder: Embedder, advance: Callable[[int, int], None]
) -> int:
    editions = {
        str(row["id"]): str(row["edition"])
        for row in _rows(client, places.documents, ("id", "edition"))
        if row["edition"]
    }
    known = {
        str(row["key"])
        for row in _rows(client, places.old, ("key", "document", "edition"))
        if editions.get(row["document"]) == row["edition"]  # others are left over from a failure
    }
    done = {str(row["key"]) for row in _rows(client, places.new, ("key",))}
    for some in portions_of(sorted(done - known)):
        client.delete(places.new, filter=any_of("key", some), timeout=TIMEOUT_S)
    missing, total, encoded = sorted(known - done), len(known), 0
    fields = (*_FIELDS, *((TITLE,) if has_titles(client, places.old) else ()))
    for start in range(0, len(missing), PORTION):
        advance(total - len(missing) + start, total)
        rows = client.query(
            places.old,
            filter=any_of("key", missing[start : start + PORTION]),
            output_fields=list(fields),
            timeout=TIMEOUT_S,
        )
        vectors = embedder.embed([row["text"] for row in rows])
        copies = [
            {name: row[name] for name in fields}
            | {TITLE: row.get(TITLE, ""), "metadata": metadata_of(row)}
            | {"vector": np.asarray(vector, np.float32).tolist()}
            for row, vector in zip(rows, vectors, strict=True)
        ]
        client.insert(places.new, copies, timeout=TIMEOUT_S)
        encoded += len(copies)
    advance(total, total)
    return encoded


def _drop_all_but(client: Any, name: str, kept: str) -> None:
    """Drop the passages' other places, of earlier encoders and of rebuilds that broke off."""
    own = re.escape(own_name(name))
    ours = re.compile(f"{PASSAGES}{own}|{REBUILT}{own}_[0-9a-f]{{12}}")
    for place in client.list_collections(timeout=TIMEOUT_S):
        if place != kept and ours.fullmatch(place):
            client.drop_collection(place, timeout=TIMEOUT_S)


def _rows(client: Any, collection: str, fields: tuple[str, ...]) -> Iterator[Any]:
    """Yield all rows, however many there are."""
    found = client.query_iterator(
        collection, batch_size=BATCH, output_fields=list(fields), timeout=TIMEOUT_S
    )
    try:
        while batch := found.next():
            yield from batch
    finally:
        found.close()
