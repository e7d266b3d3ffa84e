"""HNSW graphs on disk: saved whole or not at all, believed only when their checksum fits.

Owns building, saving and loading. The graph is a cache of the store: whatever is wrong with its
file, the answer is to build it again.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ...base import FloatArray
from .snapshot import Rows

M = 16
EF_BUILD = 120
EF_SEARCH = 96
PORTION = 2_000  # rows added per call; a stop request is seen between two


class Stopped(Exception):
    """The build was told to stop."""


def available() -> bool:
    """Tell whether hnswlib is installed."""
    try:
        import hnswlib  # noqa: F401
    except ImportError:
        return False
    return True


def build(rows: Rows, vectors: FloatArray, stop: Any, onto: tuple[Path, Rows] | None = None) -> Any:
    """Return a graph over all rows.

    Args:
        rows: labels, int64 (n,).
        vectors: float32 (n, dim), unit rows.
        stop: a ``threading.Event``; set = give up.
        onto: a saved graph to go on from, and the rows that it holds already.

    Raises:
        Stopped: ``stop`` was set.
    """
    import hnswlib

    graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
    missing = np.arange(len(rows))
    if onto is not None:
        graph.load_index(str(onto[0]), max_elements=max(len(rows), len(onto[1])))
        missing = np.flatnonzero(~np.isin(rows, onto[1], assume_unique=True))
    else:
        graph.init_index(len(rows), M=M, ef_construction=EF_BUILD, random_seed=1)
    graph.set_num_threads(1)
    for start in range(0, len(missing), PORTION):
        if stop.is_set():
            raise Stopped
        portion = missing[start : start + PORTION]
        graph.add_items(vectors[portion], rows[portion], num_threads=1)
    graph.set_ef(EF_SEARCH)
    return graph


def save(folder: Path, graph: Any, model: str, rows: Rows) -> Path:
    """Write graph and description; a crash leaves a pair that fits, or one that is not believed."""
    file = folder / "graph.hnsw"
    partial = folder / "graph.hnsw.partial"
    graph.save_index(str(partial))
    checksum = _checksum(partial)
    _sync(partial)
    partial.replace(file)
    note = {"model": model, "rows": len(rows), "checksum": checksum, "bytes": file.stat().st_size}
    described = folder / "graph.json.partial"
    described.write_text(json.dumps(note))
    _sync(described)
    described.replace(folder / "graph.json")
    _sync(folder)
    return file


def load(folder: Path, model: str, dim: int) -> tuple[Any, Rows] | None:
    """Return the saved graph and its rows, ascending; None when it cannot be believed."""
    try:
        note = json.loads((folder / "graph.json").read_text())
        file = folder / "graph.hnsw"
        if note["model"] != model or file.stat().st_size != note["bytes"]:
            return None
        if _checksum(file) != note["checksum"]:
            return None
        import hnswlib

        graph = hnswlib.Index(space="ip", dim=dim)
        graph.load_index(str(file))
        graph.set_ef(EF_SEARCH)
        rows = np.sort(np.asarray(graph.get_ids_list(), np.int64))
        return (graph, rows) if len(rows) == note["rows"] else None
    except (ImportError, OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None


def _checksum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
