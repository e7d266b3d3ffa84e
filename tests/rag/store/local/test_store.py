"""What the local store promises beyond the contract."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from livemind.benchmarks.retrieval.durability import document, open_store, run, vectors_of
from livemind.rag.base import FloatArray
from livemind.rag.documents.chunking import Chunk, digest
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.store.base import Document, StoreError, StoreReadOnly, StoreUnavailable
from livemind.rag.store.local import store as local
from livemind.rag.store.local.snapshot import Rows, Segment, Snapshot
from livemind.rag.store.local.store import LocalStore

EMBEDDER = FakeEmbedder()


def doc(name: str, text: str, title: str = "") -> Document:
    chunk = Chunk(f"p_{digest(name + text, 8)}", text, 3, digest(text), title)
    return Document(name, name, digest(text), (chunk,), EMBEDDER.embed([text]))


def ids(store: LocalStore, scored: list[tuple[int | str, float]]) -> list[str]:
    found = store.passages([key for key, _ in scored])
    return [found[key].document_id for key, _ in scored]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(tmp_path / "c", "fake", 64)
    store.upsert([doc("a", "the port of kestrel is 361")])
    yield store
    store.close()


def test_local_second_opener_is_refused(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="another process"):
        LocalStore(tmp_path / "c", "fake", 64)


def test_local_other_encoder_is_refused(tmp_path: Path) -> None:
    first = LocalStore(tmp_path, "fake", 64)
    first.upsert([doc("a", "kestrel port")])
    first.close()
    with pytest.raises(StoreError, match=r"holds vectors of fake.*livemind bridge rebuild"):
        LocalStore(tmp_path, "other", 16)


@pytest.mark.parametrize("harm", ["missing", "torn", "note torn", "older"])
def test_local_graph_file_that_cannot_be_believed_is_rebuilt(tmp_path: Path, harm: str) -> None:
    pytest.importorskip("hnswlib")
    store = open_store(tmp_path)
    store.upsert([document(f"d{i}", 1) for i in range(30)])
    store.compact()
    assert store.stats().method == "hnsw"
    if harm == "older":
        store.delete(["d1"])
        store.upsert([document("d2", 2)])
    store.close()
    graph = tmp_path / "graph.hnsw"
    if harm == "missing":
        graph.unlink()
    elif harm == "torn":
        content = bytearray(graph.read_bytes())
        content[len(content) // 2] ^= 0xFF
        graph.write_bytes(content)
    elif harm == "note torn":
        (tmp_path / "graph.json").write_text('{"model": ')
    again = open_store(tmp_path)
    edition = 2 if harm == "older" else 1
    assert ids(again, again.dense(vectors_of("d2", edition)[0], 1)) == ["d2"]
    if harm == "older":
        assert "d1" not in ids(again, again.dense(vectors_of("d1", 1)[0], 9))
    again.compact()
    assert again.stats().method == "hnsw"
    assert again.stats().deleted_rows == 0
    again.close()


def test_local_searches_during_writes_and_compaction_lose_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.upsert([document("keep", 1)])
    stop, lost = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            best = store.dense(vectors_of("keep", 1)[0], 1)
            if ids(store, best) != ["keep"]:
                lost.append(best)

    reader = threading.Thread(target=look)
    reader.start()
    for edition in range(1, 40):
        store.upsert([document(f"d{edition}", edition)])
        if edition % 10 == 0:
            store.compact()
            store.delete([f"d{edition - 5}"])
    stop.set()
    reader.join()
    store.close()
    assert lost == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_local_killed_at_random_moments_loses_nothing_acknowledged(tmp_path: Path) -> None:
    outcome = run(tmp_path / "store", kills=12, seed=3)
    assert outcome.faults == []
    assert outcome.acknowledged > 0
    assert outcome.in_progress > 0


def test_store_write_that_fails_at_commit_leaves_the_writer_usable(tmp_path: Path) -> None:
    """A deferred constraint fails in COMMIT itself, like a full disk, and keeps the transaction."""
    store = LocalStore(tmp_path / "c", "fake", 64)
    writer = store._tables._writer
    writer.execute("PRAGMA foreign_keys=ON")
    writer.executescript(
        "CREATE TABLE p (id TEXT PRIMARY KEY);"
        "CREATE TABLE q (id TEXT REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED);"
        "CREATE TRIGGER breaks AFTER INSERT ON documents WHEN new.id='bad'"
        " BEGIN INSERT INTO q VALUES (new.id); END;"
    )
    with pytest.raises(sqlite3.IntegrityError):
        store.upsert([doc("bad", "kestrel")])
    store.upsert([doc("good", "osprey")])
    assert [d.id for d in store.documents("", 9)] == ["good"]
    store.close()


def test_snapshot_graph_that_cannot_reach_enough_rows_is_searched_exactly() -> None:
    class Torn:
        def knn_query(self, *_: object, **__: object) -> None:
            raise RuntimeError("Cannot return the results in a contiguous 2D array")

    rows = np.arange(3, dtype=np.int64)
    base = Segment.of(rows, np.eye(3, 64, dtype=np.float32))
    none = Segment.of(np.empty(0, np.int64), np.empty((0, 64), np.float32))
    found = Snapshot(base, none, Torn()).search(np.eye(1, 64, dtype=np.float32)[0], 1, None)
    assert found == [(0, 1.0)]


def test_store_write_between_two_compactions_at_once_stays_searchable(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    building, go_on = threading.Event(), threading.Event()
    original = local._live

    def waits(snapshot: Snapshot) -> tuple[Rows, FloatArray]:
        found = original(snapshot)
        if threading.current_thread() is first and not building.is_set():
            building.set()
            go_on.wait(10)
        return found

    monkeypatch.setattr(local, "_live", waits)
    first = threading.Thread(target=store.compact)
    first.start()
    assert building.wait(10)
    store.upsert([doc("d", "kestrel again")])
    second = threading.Thread(target=store.compact)
    second.start()
    second.join(0.2)  # without a lock it is through by now, and the first undoes it
    go_on.set()
    first.join()
    second.join()
    (query,) = EMBEDDER.embed(["kestrel again"])
    assert ids(store, store.dense(query, 1)) == ["d"]


def test_local_passages_are_counted_through_writes_and_an_opening(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, "fake", 64)
    store.upsert([doc("a", "kestrel"), doc("b", "osprey"), doc("c", "heron")])
    store.upsert([doc("a", "falcon")])
    store.delete(["b", "nobody"])
    assert store._tables.passage_count == 2
    store.close()
    again = LocalStore(tmp_path, "fake", 64)
    assert again._tables.passage_count == 2
    again.close()


TEXTS = {
    "zh": ("路由器的端口是三百六十一", "端口"),
    "ja": ("ルーターのポートは三六一です", "ポート"),
    "th": ("พอร์ตของเราเตอร์คือสามหกหนึ่ง", "เราเตอร์"),
    "ko": ("라우터의 포트는 삼백육십일입니다", "포트"),
    "hi": ("किताबें मेज पर हैं", "किताब"),
    "ar": ("الكتاب على الطاولة", "كتاب"),
    "ru": ("книги лежат на столе", "книга"),
    "de": ("Der Schlüssel liegt im Büro", "schlüssel"),
    "en": ("the routers have several ports", "port"),
}


@pytest.mark.parametrize("language", TEXTS)
def test_local_words_of_every_script_are_found(tmp_path: Path, language: str) -> None:
    store = LocalStore(tmp_path, "fake", 64)
    store.upsert([doc(name, text) for name, (text, _) in TEXTS.items()])
    assert ids(store, store.sparse(TEXTS[language][1], 9)) == [language]
    store.delete([language])
    assert ids(store, store.sparse(TEXTS[language][1], 9)) == []
    store.close()


def test_local_character_that_stands_alone_is_found_as_the_beginning_of_words(
    tmp_path: Path,
) -> None:
    store = LocalStore(tmp_path, "fake", 64)
    store.upsert([doc("zh", TEXTS["zh"][0]), doc("en", "port")])
    assert ids(store, store.sparse("端", 9)) == ["zh"]
    store.close()


def test_local_words_of_an_older_file_are_indexed_anew(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, "fake", 64)
    store.upsert([doc("zh", TEXTS["zh"][0]), doc("en", "the port of kestrel")])
    store.close()
    with closing(sqlite3.connect(tmp_path / "passages.sqlite")) as older:
        older.executescript(
            """
            DROP TRIGGER chunk_added; DROP TRIGGER chunk_removed; DROP TABLE words;
            CREATE VIRTUAL TABLE words USING fts5(text, content='chunks', content_rowid='row',
                tokenize='porter unicode61');
            CREATE TRIGGER chunk_added AFTER INSERT ON chunks BEGIN
                INSERT INTO words(rowid, text) VALUES (new.row, new.text); END;
            CREATE TRIGGER chunk_removed AFTER DELETE ON chunks BEGIN
                INSERT INTO words(words, rowid, text) VALUES ('delete', old.row, old.text);
                DELETE FROM vectors WHERE row = old.row; END;
            INSERT INTO words(words) VALUES ('rebuild');
            ALTER TABLE chunks DROP COLUMN title;
            UPDATE meta SET value = '1' WHERE key = 'schema';
            """
        )
    again = LocalStore(tmp_path, "fake", 64)
    assert ids(again, again.sparse("端口", 9)) == ["zh"]
    assert ids(again, again.sparse("ports", 9)) == ["en"]
    again.close()


def test_local_titles_are_kept_and_of_an_older_file_unknown(tmp_path: Path) -> None:
    def titles(store: LocalStore) -> dict[str, str]:
        found = store.passages(range(1, 9)).values()
        return {passage.document_id: passage.title for passage in found}

    store = LocalStore(tmp_path, "fake", 64)
    store.upsert([doc("a", "It fishes.", "Birds > Osprey"), doc("b", "It fishes.")])
    assert titles(store) == {"a": "Birds > Osprey", "b": ""}
    store.close()
    with closing(sqlite3.connect(tmp_path / "passages.sqlite")) as older:
        older.executescript(
            "ALTER TABLE chunks DROP COLUMN title; UPDATE meta SET value='2' WHERE key='schema';"
        )
    again = LocalStore(tmp_path, "fake", 64)
    assert titles(again) == {"a": "", "b": ""}
    again.upsert([doc("a", "It fishes.", "Osprey")])
    assert titles(again)["a"] == "Osprey"
    again.close()


def test_store_on_a_full_disk_says_so_and_goes_on_once_there_is_room(store: LocalStore) -> None:
    writer = store._tables._writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreUnavailable, match="full"):
        store.upsert([doc(f"d{number}", "osprey " * 4000) for number in range(20)])
    assert [d.id for d in store.documents("", 9)] == ["a"]
    writer.execute("PRAGMA max_page_count=1000000")
    store.upsert([doc("b", "osprey")])
    assert [d.id for d in store.documents("", 9)] == ["a", "b"]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 8 MiB; only whoever may mount one has it."""
    folder = Path(tempfile.mkdtemp())
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("cannot mount a small disk here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


def test_store_on_a_full_disk_deletes_and_has_room_again(small_disk: Path) -> None:
    store = LocalStore(small_disk / "c", "fake", 64)
    stored, marks = 0, "." * 30_000  # large, and nothing to look up

    def fill() -> None:
        nonlocal stored
        while True:
            store.upsert([doc(f"d{stored}", f"osprey{stored} {marks}")])
            stored += 1

    with pytest.raises(StoreUnavailable, match="full"):
        fill()
    with (small_disk / "of-others").open("wb", buffering=0) as rest, suppress(OSError):
        while rest.write(bytes(1024)):
            pass
    with pytest.raises(StoreUnavailable, match="full"):
        store.upsert([doc("no", f"kestrel {marks}")])
    for number in range(stored // 2):
        assert store.delete([f"d{number}"]) == 1
    store.upsert([doc("new", f"kestrel {marks}")])
    assert ids(store, store.sparse("kestrel", 9)) == ["new"]
    left = stored - stored // 2 + 1
    store.close()
    again = LocalStore(small_disk / "c", "fake", 64)
    assert again.stats().documents == left
    again.close()


@pytest.fixture
def frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A closed store whose folder takes no file that would be written, as on a read-only disk."""
    folder = tmp_path / "c"
    store = LocalStore(folder, "fake", 64, exact_below=10)
    store.upsert([doc(f"d{number}", f"the port of kestrel{number}") for number in range(40)])
    store.close()
    opened = Path.open

    def read_only(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if folder in path.parents and set(mode) & set("wax+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", read_only)
    return folder


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        file.name: ((told := file.stat()).st_mtime_ns, told.st_size) for file in folder.iterdir()
    }


def test_store_in_a_folder_that_cannot_be_written_is_searched_and_left_as_it_is(
    frozen: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = contents(frozen)
    stores = [LocalStore(frozen, "fake", 64, exact_below=10) for _ in range(2)]
    for store in stores:
        assert ids(store, store.sparse("kestrel7", 9)) == ["d7"]
        assert ids(store, store.dense(EMBEDDER.embed(["the port of kestrel7"])[0], 1)) == ["d7"]
        with pytest.raises(StoreReadOnly, match="cannot be written"):
            store.upsert([doc("b", "osprey")])
        with pytest.raises(StoreReadOnly):
            store.delete(["d7"])
        store.close()
    assert contents(frozen) == before
    assert "served for reading" in caplog.text


def test_store_that_cannot_be_written_and_was_not_closed_says_what_to_do(frozen: Path) -> None:
    with open(frozen / "passages.sqlite-wal", "wb") as log:
        log.write(b"log")
    with pytest.raises(StoreError, match="open it once where it can be written"):
        LocalStore(frozen, "fake", 64)


def test_store_in_a_folder_that_cannot_be_made_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="collection c: Not a directory"):
        LocalStore(tmp_path / "file" / "c", "fake", 64)
