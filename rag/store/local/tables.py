"""The truth on this machine: documents, passages, vectors and words in one SQLite file.

Owns the schema and every statement. Write-ahead log with ``synchronous=FULL``: a commit that has
returned survives the process and the machine. One connection writes, readers have one per thread.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np

from ...base import FloatArray
from ...words import search_terms
from ..base import (
    Document,
    DocumentInfo,
    StoredPassage,
    StoreError,
    StoreUnavailable,
    UnknownFilterKey,
)
from ..filters import Filter, keys_of, to_sql
from .schema import SCHEMA, STEPS, TABLES, WORDS
from .spare import Spare, refuse_unmerged
from .words import match_of

_REPLACEMENTS = (
    "CREATE TABLE IF NOT EXISTS replacements (row INTEGER PRIMARY KEY, vector BLOB NOT NULL)"
)

# Of a file in a folder that cannot be written, where SQLite could not make its files beside it.
_UNCHANGING = "?mode=ro&immutable=1"
_OF_THE_DISK = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
)


def recorded_encoder(file: Path) -> tuple[str, int] | None:
    """Return name and dimensions of the encoder that a file's vectors are of, None if unknown."""
    if not file.exists():
        return None
    for how in ("", _UNCHANGING):
        try:
            address = file.absolute().as_uri() + how
            with closing(sqlite3.connect(address, timeout=10.0, uri=True)) as connection:
                found = dict(connection.execute("SELECT key, value FROM meta").fetchall())
            return str(found["model"]), int(found["dim"])
        except (sqlite3.DatabaseError, KeyError, ValueError):  # opening it says what is wrong
            continue
    return None


class Tables:
    """One SQLite file. Thread-safe for readers; writes are the caller's to serialise.

    Attributes:
        file: where it is.
        passage_count: how many passages there are: counting them reads the whole table.
    """

    def __init__(self, file: Path, model: str, dim: int, *, read_only: bool = False) -> None:
        """Open or make it.

        Args:
            file: the database.
            model: name of the encoder.
            dim: length of its vectors.
            read_only: the folder cannot be written, and nobody else writes it.

        Raises:
            StoreError: not one of ours, or it holds vectors of another length or encoder.
        """
        self._read_only = read_only
        if read_only:
            refuse_unmerged(file)
        self.file = file
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._spare = Spare(file.with_name("spare"), reserve=not read_only)
        try:
            self._writer = self._connect()
            if not read_only:
                self._make_tables(model, dim)
        except sqlite3.DatabaseError as exc:
            raise StoreError(f"{file.name}: not a usable database ({exc})") from exc
        if self.meta("schema") != str(SCHEMA):
            raise StoreError(f"{file.name}: schema {self.meta('schema')}, this is {SCHEMA}")
        found = (self.meta("model"), int(self.meta("dim")))
        if found != (model, dim):
            raise StoreError(
                f"{file.parent.name} holds vectors of {found[0]} ({found[1]} dimensions), "
                f"the encoder is {model} ({dim}); to make them anew: livemind bridge rebuild"
            )
        counted = self.reader.execute("SELECT count(*) FROM vectors").fetchone()
        self.passage_count = int(counted[0])

    def _make_tables(self, model: str, dim: int) -> None:
        with self._writing() as writer:
            known = writer.execute("SELECT name FROM sqlite_master WHERE name='meta'")
            if known.fetchone() is None:
                for statement in _statements(TABLES + WORDS):
                    writer.execute(statement)
                first = {"schema": SCHEMA, "model": model, "dim": dim, "version": 0}
                writer.executemany("INSERT INTO meta VALUES (?, ?)", first.items())
                return
            for statement in _statements(STEPS.get(self.meta("schema"), "")):
                writer.execute(statement)

    def begin_replacing(self, model: str) -> None:
        """Make room for vectors of another encoder; those of it that are there already stay."""
        with self._writing() as writer:
            writer.execute(_REPLACEMENTS)
            known = writer.execute("SELECT value FROM meta WHERE key='replacement'").fetchone()
            if known != (model,):
                writer.execute("DELETE FROM replacements")
                writer.execute("INSERT OR REPLACE INTO meta VALUES ('replacement', ?)", (model,))

    def without_replacement(self, limit: int) -> tuple[int, list[tuple[int, str]]]:
        """Return how many passages have no new vector yet, and row and text of the first ones."""
        missing = "FROM chunks WHERE row NOT IN (SELECT row FROM replacements)"
        (left,) = self.reader.execute(f"SELECT count(*) {missing}").fetchone()
        rows = self.reader.execute(f"SELECT row, text {missing} ORDER BY row LIMIT ?", (limit,))
        return int(left), rows.fetchall()

    def add_replacements(self, rows: Sequence[int], vectors: FloatArray) -> None:
        """Store new vectors; durable on return, not searched yet."""
        with self._writing() as writer:
            writer.executemany(
                "INSERT INTO replacements VALUES (?, ?)",
                [(row, vector.tobytes()) for row, vector in zip(rows, vectors, strict=True)],
            )

    def replace_vectors(self, model: str, dim: int) -> None:
        """Put the new vectors in place of the old ones, in one transaction."""
        with self._writing() as writer:
            writer.execute("DELETE FROM vectors")
            writer.execute(
                "INSERT INTO vectors SELECT r.row, r.vector FROM replacements r "
                "JOIN chunks c ON c.row = r.row"
            )
            writer.execute("DROP TABLE replacements")
            writer.execute("DELETE FROM meta WHERE key='replacement'")
            changed = [(model, "model"), (str(dim), "dim")]
            writer.executemany("UPDATE meta SET value=? WHERE key=?", changed)
            _next_version(writer)

    def _connect(self) -> sqlite3.Connection:
        how = _UNCHANGING if self._read_only else ""
        connection = sqlite3.connect(
            self.file.absolute().as_uri() + how,
            timeout=10.0,
            isolation_level=None,
            check_same_thread=False,
            uri=True,
        )
        connection.create_function(
            "search_terms", 1, lambda text: " ".join(search_terms(text)), deterministic=True
        )
        if not self._read_only:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA mmap_size=1073741824")
        connection.execute("PRAGMA cache_size=-65536")
        with self._guard:
            self._opened.append(connection)
        return connection

    @property
    def reader(self) -> sqlite3.Connection:
        """This thread's connection."""
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = self._local.connection = self._connect()
        return found

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Write in one transaction.

        Raises:
            StoreUnavailable: the disk is full, cannot be written or fails; nothing has changed.
        """
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            yield self._writer
            self._writer.execute("COMMIT")
        except BaseException as exc:
            if self._writer.in_transaction:  # SQLite has ended it itself when the disk is full
                self._writer.execute("ROLLBACK")
            code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
            if isinstance(exc, sqlite3.OperationalError) and code in _OF_THE_DISK:
                raise StoreUnavailable(f"{self.file.parent.name}: nothing stored: {exc}") from exc
            raise

    def meta(self, key: str) -> str:
        """Return a property of the file."""
        return str(self.reader.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()[0])

    def upsert(self, documents: Sequence[Document]) -> tuple[list[int], list[int]]:
        """Replace documents in one transaction; returns (rows removed, rows added)."""
        removed: list[int] = []
        added: list[int] = []
        with self._writing() as writer:
            for document in documents:
                removed += self._remove(writer, document.id)
                data = (json.dumps(dict(document.metadata)), document.hash, document.source)
                writer.execute("INSERT INTO documents VALUES (?, ?, ?, ?)",
                               (document.id, *data[::-1]))  # fmt: skip
                writer.executemany(
                    "INSERT OR IGNORE INTO keys VALUES (?)", ((key,) for key in document.metadata)
                )
                for chunk, vector in zip(document.chunks, document.vectors, strict=True):
                    row = writer.execute(
                        "INSERT INTO chunks (id, document, text, hash, tokens, title) "
                        "VALUES (?,?,?,?,?,?)",
                        (chunk.id, document.id, chunk.text, chunk.hash, chunk.tokens, chunk.title),
                    ).lastrowid
                    writer.execute("INSERT INTO vectors VALUES (?, ?)", (row, vector.tobytes()))
                    added.append(row or 0)
            _next_version(writer)
        self.passage_count += len(added) - len(removed)
        return removed, added

    def delete(self, ids: Sequence[str]) -> tuple[int, list[int]]:
        """Remove documents in one transaction; returns how many and their rows.

        That needs room too: on a full disk the spare file gives it.
        """
        try:
            return self._delete(ids)
        except StoreUnavailable:
            if not self._spare.give_up():
                raise
        try:
            return self._delete(ids)
        finally:
            # what was deleted is room within the file, and the log need not keep it any more
            with suppress(sqlite3.OperationalError):
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._spare.reserve()

    def _delete(self, ids: Sequence[str]) -> tuple[int, list[int]]:
        rows: list[int] = []
        count = 0
        with self._writing() as writer:
            for identity in dict.fromkeys(ids):
                found = writer.execute("SELECT 1 FROM documents WHERE id=?", (identity,)).fetchone()
                count += found is not None
                rows += self._remove(writer, identity)
            if count:
                _next_version(writer)
        self.passage_count -= len(rows)
        return count, rows

    def _remove(self, writer: sqlite3.Connection, identity: str) -> list[int]:
        found = writer.execute("SELECT row FROM chunks WHERE document=?", (identity,)).fetchall()
        writer.execute("DELETE FROM chunks WHERE document=?", (identity,))
        writer.execute("DELETE FROM documents WHERE id=?", (identity,))
        return [row for (row,) in found]

    def vectors(self, dim: int) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], FloatArray]:
        """Return all rows, ascending, with their vectors: int64 (n,), float32 (n, dim)."""
        count = self.passage_count
        rows, vectors = np.empty(count, np.int64), np.empty((count, dim), np.float32)
        cursor = self.reader.execute(
            "SELECT row, vector FROM vectors ORDER BY row LIMIT ?", (count,)
        )
        for place, (row, vector) in enumerate(cursor):
            rows[place] = row
            vectors[place] = np.frombuffer(vector, np.float32)
        return rows, vectors

    def check_keys(self, where: Filter) -> None:
        """Raise UnknownFilterKey for a key that no document has."""
        for key in keys_of(where):
            if self.reader.execute("SELECT 1 FROM keys WHERE key=?", (key,)).fetchone() is None:
                raise UnknownFilterKey(key)

    def rows_where(self, where: Filter) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the rows whose document fits, ascending."""
        condition, values = to_sql(where)
        found = self.reader.execute(
            f"SELECT c.row FROM documents d JOIN chunks c ON c.document = d.id WHERE {condition}",
            values,
        )
        return np.sort(np.fromiter((row for (row,) in found), np.int64))

    def sparse(self, query: str, k: int, where: Filter | None) -> list[tuple[int, float]]:
        """Return the k best rows by BM25 with their shares; see ``PassageStore.sparse``."""
        match = match_of(self.reader, query, self.passage_count)
        if match is None:
            return []
        condition, values = ("", []) if where is None else to_sql(where)
        if condition:
            condition = (
                "AND rowid IN (SELECT c.row FROM documents d JOIN chunks c ON c.document = d.id "
                f"WHERE {condition})"
            )
        # One row: each row of a result hands the interpreter over to another thread and back.
        found = self.reader.execute(
            "SELECT json_group_array(json_array(rowid, score)) FROM (SELECT rowid, "
            f"bm25(words) AS score FROM words WHERE words MATCH ? {condition} "
            "ORDER BY score LIMIT ?)",
            [match.expression, *values, k],
        )
        best = sorted(json.loads(found.fetchone()[0]), key=lambda pair: (pair[1], pair[0]))
        return [(row, -score / match.weight) for row, score in best]

    def passages(self, rows: Sequence[int]) -> dict[int, StoredPassage]:
        """Return the passages of those rows that are still there."""
        marks = ",".join("?" * len(rows))
        found = self.reader.execute(
            "SELECT c.row, c.id, c.document, d.source, c.text, c.hash, c.tokens, d.metadata, "
            "c.title "
            f"FROM chunks c JOIN documents d ON d.id = c.document WHERE c.row IN ({marks})",
            list(rows),
        )
        return {
            row: StoredPassage(
                name, document, source, text, hashed, tokens, json.loads(metadata), title
            )
            for row, name, document, source, text, hashed, tokens, metadata, title in found
        }

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the content hash of each document that is there."""
        one = "SELECT hash FROM documents WHERE id=?"
        found = ((name, self.reader.execute(one, (name,)).fetchone()) for name in ids)
        return {name: row[0] for name, row in found if row is not None}

    def documents(self, after: str, limit: int) -> list[DocumentInfo]:
        """Return documents by id."""
        found = self.reader.execute(
            "SELECT d.id, d.source, d.hash, d.metadata, (SELECT count(*) FROM chunks c WHERE "
            "c.document = d.id) FROM documents d WHERE d.id > ? ORDER BY d.id LIMIT ?",
            (after, limit),
        )
        return [DocumentInfo(i, s, h, count, json.loads(m)) for i, s, h, m, count in found]

    def document_count(self) -> int:
        """Return how many documents there are."""
        return int(self.reader.execute("SELECT count(*) FROM documents").fetchone()[0])

    def close(self) -> None:
        """Close every connection; no other thread may be using one."""
        with self._guard:
            for connection in self._opened:
                connection.close()
            self._opened.clear()


def _next_version(writer: sqlite3.Connection) -> None:
    writer.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'version'")


def _statements(script: str) -> Iterator[str]:
    """Split a script; a trigger's body stays in one piece."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
