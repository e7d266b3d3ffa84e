"""A collection's vectors made anew by another encoder, in portions that outlive the process.

Owns the table of new vectors. The collection stays as it is until all of them are there; one
transaction then puts them in place. What was done before a kill is not done again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from ...base import Embedder
from ..base import StoreError
from .store import claimed
from .tables import Tables, recorded_encoder

PORTION = 64


def rebuild(
    folder: Path,
    embedder: Embedder,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Give every passage of a collection a vector of this encoder; blocks, minutes at 100k.

    Args:
        folder: of the collection; no other process may have it open.
        embedder: of passages.
        advance: told how many passages of how many have their new vector.

    Returns:
        How many passages were encoded now; 0 when the collection is of this encoder already.

    Raises:
        StoreError: no such collection, or another process uses it.
        EmbedderError: the encoder failed; what was done stays.
    """
    file = folder / "passages.sqlite"
    found = recorded_encoder(file)
    if found is None:
        raise StoreError(f"{folder.name}: no such collection in {folder.parent}")
    with claimed(folder):
        tables = Tables(file, *found)
        try:
            if found[0] == embedder.name:
                return 0
            encoded = _encode(tables, embedder, advance)
            tables.replace_vectors(embedder.name, embedder.dim)
        finally:
            tables.close()
        for graph in ("graph.hnsw", "graph.json"):  # of the old vectors; built again when needed
            (folder / graph).unlink(missing_ok=True)
    return encoded


def _encode(tables: Tables, embedder: Embedder, advance: Callable[[int, int], None]) -> int:
    tables.begin_replacing(embedder.name)
    total, encoded = tables.passage_count, 0
    size = 4 * embedder.dim * total
    if size > (free := shutil.disk_usage(tables.file.parent).free):
        raise StoreError(f"{size / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")
    while True:
        left, portion = tables.without_replacement(PORTION)
        advance(total - left, total)
        if not portion:
            return encoded
        vectors = embedder.embed([text for _, text in portion])
        tables.add_replacements([row for row, _ in portion], vectors)
        encoded += len(portion)
