"""Vectors made anew by another encoder: all of them or none, and never one twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from livemind.rag.base import FloatArray
from livemind.rag.documents.chunking import Chunk, digest
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.store.base import Document, StoreError
from livemind.rag.store.local.rebuild import PORTION, rebuild
from livemind.rag.store.local.store import LocalStore
from livemind.rag.store.local.tables import recorded_encoder


class Other(FakeEmbedder):
    """Another encoder, of fewer dimensions."""

    name = "other"

    def __init__(self) -> None:
        super().__init__(16)


def fill(folder: Path, count: int) -> None:
    embedder = FakeEmbedder()
    with_text = [f"kestrel number {number} has the port {number * 7}" for number in range(count)]
    vectors = embedder.embed(with_text)
    store = LocalStore(folder, embedder.name, embedder.dim)
    store.upsert(
        [
            Document(f"d{n}", f"d{n}", digest(t), (Chunk(f"p{n}", t, 6, digest(t)),), v[None])
            for n, (t, v) in enumerate(zip(with_text, vectors, strict=True))
        ]
    )
    store.close()


def nearest(folder: Path, text: str) -> str:
    store = LocalStore(folder, "other", 16)
    try:
        (key, _), *_ = store.dense(Other().embed([text])[0], 1)
        return store.passages([key])[key].document_id
    finally:
        store.close()


def test_rebuild_gives_every_passage_a_vector_of_the_other_encoder(tmp_path: Path) -> None:
    fill(tmp_path / "c", 2 * PORTION + 5)
    told: list[tuple[int, int]] = []
    count = rebuild(tmp_path / "c", Other(), lambda done, total: told.append((done, total)))
    assert count == 2 * PORTION + 5
    assert told[0] == (0, count)
    assert told[-1] == (count, count)
    assert nearest(tmp_path / "c", "kestrel number 9 has the port 63") == "d9"


def test_rebuild_to_the_same_encoder_does_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "c", 3)
    embedder = FakeEmbedder()
    assert rebuild(tmp_path / "c", embedder) == 0
    assert embedder.batches == []


def test_rebuild_that_fails_leaves_the_old_vectors_and_goes_on_later(tmp_path: Path) -> None:
    fill(tmp_path / "c", 3 * PORTION)

    class Failing(Other):
        def embed(self, texts: Sequence[str]) -> FloatArray:
            if len(self.batches) == 2:
                raise RuntimeError("gone")
            return super().embed(texts)

    with pytest.raises(RuntimeError, match="gone"):
        rebuild(tmp_path / "c", Failing())
    LocalStore(tmp_path / "c", "fake", 64).close()  # as it was
    assert rebuild(tmp_path / "c", Other()) == PORTION


def test_rebuild_of_a_changed_collection_encodes_what_is_there_now(tmp_path: Path) -> None:
    fill(tmp_path / "c", PORTION + 2)

    class Failing(Other):
        def embed(self, texts: Sequence[str]) -> FloatArray:
            if self.batches:
                raise RuntimeError("gone")
            return super().embed(texts)

    with pytest.raises(RuntimeError, match="gone"):
        rebuild(tmp_path / "c", Failing())
    store = LocalStore(tmp_path / "c", "fake", 64)
    store.delete(["d1"])
    text = "a heron is new"
    chunk = Chunk("p", text, 4, digest(text))
    store.upsert([Document("new", "new", "h", (chunk,), FakeEmbedder().embed([text]))])
    store.close()
    assert rebuild(tmp_path / "c", Other()) == 3
    assert nearest(tmp_path / "c", text) == "new"
    store = LocalStore(tmp_path / "c", "other", 16)
    assert store.stats().passages == PORTION + 2
    store.close()


def test_rebuild_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    fill(tmp_path / "c", 6 * PORTION)
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from livemind.rag.encoder.fake import FakeEmbedder\n"
        "from livemind.rag.store.local.rebuild import rebuild\n"
        "class Slow(FakeEmbedder):\n"
        "    name = 'other'\n"
        "    def embed(self, texts):\n"
        "        time.sleep(0.2)\n"
        "        return super().embed(texts)\n"
        "rebuild(Path(sys.argv[1]), Slow(16), lambda d, t: print(d, flush=True))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "c")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 2 * PORTION:
                os.kill(process.pid, signal.SIGKILL)
                break
    assert recorded_encoder(tmp_path / "c" / "passages.sqlite") == ("fake", 64)
    assert 0 < rebuild(tmp_path / "c", Other()) <= 4 * PORTION
    assert nearest(tmp_path / "c", "kestrel number 9 has the port 63") == "d9"


def test_rebuild_of_a_collection_in_use_or_of_none_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "c", 3)
    with pytest.raises(StoreError, match="no such collection"):
        rebuild(tmp_path / "none", Other())
    store = LocalStore(tmp_path / "c", "fake", 64)
    with pytest.raises(StoreError, match="another process"):
        rebuild(tmp_path / "c", Other())
    store.close()
