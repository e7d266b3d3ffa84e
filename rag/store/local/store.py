"""The store on this machine: SQLite for the truth, a snapshot in memory for search.

Owns the one writer, the swapping of snapshots and the compaction in the background. A write returns
when it is durable in SQLite and visible to searches.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...base import FloatArray
from ..base import (
    Document,
    DocumentInfo,
    Key,
    Scored,
    StoredPassage,
    StoreError,
    StoreReadOnly,
    StoreStats,
    checked,
)
from ..filters import Filter
from . import graph_files
from .snapshot import EXACT_BELOW, Rows, Segment, Snapshot
from .tables import Tables

DEAD_SHARE = 0.25
TAIL_ROWS = 10_000
SMALL_TAIL_ROWS = 2_000

_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)

_LOG = logging.getLogger(__name__)


class LocalStore:
    """Passages in a folder of this machine; one process at a time."""

    def __init__(
        self,
        folder: Path,
        model: str,
        dim: int,
        *,
        exact_below: int = EXACT_BELOW,
    ) -> None:
        """Open the folder, or make it. Blocks: about 10 s for a million passages.

        A missing, torn or foreign graph file is no error: searches are exact until it is rebuilt
        in the background. A folder that this process may not write is served for reading.

        Args:
            folder: of this collection alone.
            model: name of the encoder; part of the collection's identity.
            dim: length of its vectors.
            exact_below: passages from which a graph is built.

        Raises:
            StoreError: in use by another process, not usable, or of another encoder.
        """
        self._folder, self._model, self._dim = folder, model, dim
        self._exact_below = exact_below
        self._claim, self._read_only = _claim(folder)
        try:
            file = folder / "passages.sqlite"
            self._tables = Tables(file, model, dim, read_only=self._read_only)
            self._snapshot = self._load()
        except BaseException:
            self._let_go()
            raise
        self._version = self._tables.meta("version")
        self._writing = threading.Lock()
        self._compaction = threading.Lock()  # two at once would undo each other's swap
        self._stop = threading.Event()
        self._closed = False
        self._compacting: threading.Thread | None = None
        with self._writing:
            self._compact_if_due()

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
        """Changes with every acknowledged write."""
        return f"{self._model}-{self._version}"

    def upsert(self, documents: Sequence[Document]) -> None:
        """Store or replace documents in one transaction; durable and searchable on return."""
        documents = checked(documents, self._dim)
        with self._writing:
            self._refuse_writing()
            removed, added = self._tables.upsert(documents)
            vectors = np.concatenate(
                [np.asarray(document.vectors, np.float32) for document in documents]
                or [np.empty((0, self._dim), np.float32)]
            )
            self._apply(removed, np.asarray(added, np.int64), vectors)

    def delete(self, ids: Sequence[str]) -> int:
        """Remove documents in one transaction; durable and invisible on return."""
        with self._writing:
            self._refuse_writing()
            count, removed = self._tables.delete(ids)
            none = np.empty(0, np.int64)
            self._apply(removed, none, np.empty((0, self._dim), np.float32))
            return count

    def _apply(self, removed: Sequence[int], added: Rows, vectors: FloatArray) -> None:
        now, gone = self._snapshot, np.sort(np.asarray(removed, np.int64))
        base, tail = now.base.without(gone), now.tail.without(gone)
        if len(added):
            tail = Segment(
                np.concatenate([tail.rows, added]),
                np.concatenate([tail.vectors, vectors]),
                np.concatenate([tail.alive, np.ones(len(added), np.bool_)]),
            )
        self._snapshot = Snapshot(base, tail, now.graph)
        self._version = self._tables.meta("version")
        self._compact_if_due()

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the content hashes of those documents that are there."""
        return self._tables.hashes(ids)

    def documents(self, after: str, limit: int) -> list[DocumentInfo]:
        """Return up to ``limit`` documents with an id greater than ``after``, by id."""
        return self._tables.documents(after, limit)

    def dense(self, vector: FloatArray, k: int, where: Filter | None = None) -> list[Scored]:
        """Return the k nearest passages with their cosines, best first."""
        if vector.shape != (self._dim,):
            raise ValueError(f"vector has shape {vector.shape}, need ({self._dim},)")
        allowed = None
        if where is not None:
            self._tables.check_keys(where)
            allowed = self._tables.rows_where(where)
        return list(self._snapshot.search(vector, k, allowed))

    def sparse(self, query: str, k: int, where: Filter | None = None) -> list[Scored]:
        """Return the k passages that match the words best; see ``PassageStore.sparse``."""
        if where is not None:
            self._tables.check_keys(where)
        return list(self._tables.sparse(query, k, where))

    def cosines(self, vector: FloatArray, keys: Sequence[Key]) -> dict[Key, float]:
        """Return the cosines of those passages that are still there."""
        rows = np.sort(np.asarray([int(key) for key in keys], np.int64))
        return dict(self._snapshot.search(vector, len(rows), rows)) if len(rows) else {}

    def passages(self, keys: Sequence[Key]) -> dict[Key, StoredPassage]:
        """Return the passages that are still there."""
        return dict(self._tables.passages([int(key) for key in keys]).items())

    def stats(self) -> StoreStats:
        """Return the counts."""
        return StoreStats(
            documents=self._tables.document_count(),
            passages=self._snapshot.live,
            dim=self._dim,
            model=self._model,
            version=self.version,
            method="exact" if self._snapshot.graph is None else "hnsw",
            deleted_rows=self._snapshot.dead,
        )

    def compact(self) -> None:
        """Build and save the graph now, without tombstones or tail; blocks (minutes at 100k)."""
        self._compact()

    def close(self) -> None:
        """Stop a compaction, close the files. Nothing acknowledged is lost by not calling it."""
        if self._closed:
            return
        self._stop.set()
        self._wait_for_compaction()
        with self._writing:
            self._closed = True
            self._tables.close()
            self._let_go()

    def _let_go(self) -> None:
        if self._claim is not None:
            self._claim.close()

    def _refuse_writing(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")
        if self._read_only:
            raise StoreReadOnly(f"{self._folder.name}: its folder cannot be written")

    def _load(self) -> Snapshot:
        rows, vectors = self._tables.vectors(self._dim)
        saved = graph_files.load(self._folder, self._model, self._dim)
        none = Segment.of(np.empty(0, np.int64), np.empty((0, self._dim), np.float32))
        if saved is None:
            return Snapshot(Segment.of(rows, vectors), none)
        graph, in_graph = saved
        known = np.isin(in_graph, rows, assume_unique=True)
        base_vectors = np.zeros((len(in_graph), self._dim), np.float32)
        all_rows = Segment.of(rows, vectors)
        base_vectors[known] = vectors[all_rows.places(in_graph[known])]
        fresh = ~np.isin(rows, in_graph, assume_unique=True)
        base = Segment(in_graph, base_vectors, known)
        return Snapshot(base, Segment.of(rows[fresh], vectors[fresh]), graph)

    def _compact_if_due(self) -> None:
        now = self._snapshot
        held = len(now.base.rows) + len(now.tail.rows)
        limit = min(max(len(now.base.rows) // 4, SMALL_TAIL_ROWS), TAIL_ROWS)
        due = len(now.tail.rows) > limit or now.dead > max(DEAD_SHARE * held, 100)
        due |= now.graph is None and now.live >= self._exact_below and graph_files.available()
        running = self._compacting is not None and self._compacting.is_alive()
        if due and not running and not self._stop.is_set():
            self._compacting = threading.Thread(
                target=self._compact_quietly, name="livemind-compact", daemon=True
            )
            self._compacting.start()

    def _compact_quietly(self) -> None:
        try:
            self._compact()
        except graph_files.Stopped:
            pass
        except Exception as exc:  # searches go on with what there is; the next write tries again
            _LOG.warning("compaction failed: %s", type(exc).__name__)

    def _compact(self) -> None:
        with self._compaction:
            self._compact_alone()

    def _compact_alone(self) -> None:
        seen = self._snapshot
        rows, vectors = _live(seen)
        graph: Any = None
        if len(rows) >= self._exact_below and graph_files.available():
            saved = self._folder / "graph.hnsw"
            grow = seen.graph is not None and saved.exists() and seen.base.alive.all()
            onto = (saved, seen.base.rows) if grow else None
            graph = graph_files.build(rows, vectors, self._stop, onto)
            if not self._read_only:
                graph_files.save(self._folder, graph, self._model, rows)
        base = Segment.of(rows, vectors)
        with self._writing:
            now = self._snapshot
            live = np.concatenate([part.rows[part.alive] for part in (now.base, now.tail)])
            gone = rows[~np.isin(rows, live, assume_unique=True)]
            fresh = ~np.isin(now.tail.rows, rows, assume_unique=True)
            tail = Segment(now.tail.rows[fresh], now.tail.vectors[fresh], now.tail.alive[fresh])
            self._snapshot = Snapshot(base.without(gone), tail, graph)

    def _wait_for_compaction(self) -> None:
        thread = self._compacting
        if thread is not None and thread is not threading.current_thread():
            thread.join()


def _live(snapshot: Snapshot) -> tuple[Rows, FloatArray]:
    parts = [(part.rows[part.alive], part.vectors[part.alive])
             for part in (snapshot.base, snapshot.tail)]  # fmt: skip
    return np.concatenate([r for r, _ in parts]), np.concatenate([v for _, v in parts])


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a collection's folder for this process.

    Raises:
        StoreError: another one does, or it cannot be written.
    """
    handle, read_only = _claim(folder)
    try:
        if read_only:
            raise StoreReadOnly(f"{folder.name}: its folder cannot be written")
        yield
    finally:
        if handle is not None:
            handle.close()


def _claim(folder: Path) -> tuple[IO[str] | None, bool]:
    """Hold the folder for this process until the file is closed, or the process ends.

    Returns:
        The file, and whether the folder can only be read; no file where such a folder has none.
    """
    file, read_only = folder / "in-use", False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = file.open("a+")
    except OSError as exc:
        if exc.errno not in _NOT_WRITABLE or not folder.is_dir():
            raise StoreError(f"collection {folder.name}: {exc.strerror}") from exc
        _LOG.warning("collection %s is served for reading: %s", folder.name, exc.strerror)
        read_only = True
        try:
            handle = file.open()
        except OSError:
            return None, True
    try:
        import fcntl

        fcntl.flock(handle, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except ImportError:  # not a POSIX system: SQLite alone guards the truth
        pass
    except OSError:
        handle.close()
        raise StoreError(f"collection {folder.name}: another process uses it") from None
    if not read_only:
        handle.truncate(0)
        with suppress(OSError):  # a full disk: who uses it is for people to read
            os.write(handle.fileno(), str(os.getpid()).encode())
    return handle, read_only
