"""Vectors in Milvus made anew by another encoder: all of them or none, and never one twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from livemind.rag.base import FloatArray
from livemind.rag.documents.chunking import Chunk, digest
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.store.base import Document, StoreError
from livemind.rag.store.milvus import rebuild as module
from livemind.rag.store.milvus.rebuild import PORTION, rebuild
from livemind.rag.store.milvus.schema import MilvusAddress
from livemind.rag.store.milvus.store import MilvusStore, collection_names

NAME = "a-b"
COUNT = PORTION + 5


class Other(FakeEmbedder):
    """Another encoder, of fewer dimensions; fails at its call number ``fails_at``."""

    name = "other"

    def __init__(self, fails_at: int = -1) -> None:
        super().__init__(16)
        self.fails_at = fails_at

    def embed(self, texts: Sequence[str]) -> FloatArray:
        if len(self.batches) == self.fails_at:
            raise RuntimeError("gone")
        return super().embed(texts)


def document(name: str, text: str, embedder: FakeEmbedder) -> Document:
    chunk = Chunk(f"p_{digest(name + text, 8)}", text, 3, digest(text), title=f"of {name}")
    return Document(name, name, digest(text), (chunk,), embedder.embed([text]), {"n": len(name)})


def text_of(number: int) -> str:
    return f"kestrel number {number} has the port {number * 7}"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[MilvusAddress]:
    pytest.importorskip("pymilvus", reason="the extra livemind[milvus] is not installed")
    manager = pytest.importorskip(
        "milvus_lite.server_manager", reason="milvus-lite is not installed"
    ).server_manager_instance
    found = MilvusAddress(str(tmp_path / "lite.db"))
    store = MilvusStore(found, NAME, "fake", 64)
    store.upsert([document(f"d{n}", text_of(n), FakeEmbedder()) for n in range(COUNT)])
    store.close()
    manager.release_all()  # as for another process: nothing is loaded
    yield found
    manager.release_all()


def nearest(address: MilvusAddress, text: str) -> tuple[str, str]:
    store = MilvusStore(address, NAME, "other", 16)
    try:
        (key, _), *_ = store.dense(Other().embed([text])[0], 1)
        found = store.passages([key])[key]
        return found.document_id, found.title
    finally:
        store.close()


def test_milvus_rebuild_gives_every_passage_a_vector_of_the_other_encoder(
    address: MilvusAddress,
) -> None:
    told: list[tuple[int, int]] = []
    assert rebuild(address, NAME, Other(), lambda *done: told.append(done)) == COUNT
    assert (told[0], told[-1]) == ((0, COUNT), (COUNT, COUNT))
    assert nearest(address, text_of(9)) == ("d9", "of d9")
    with pytest.raises(StoreError, match="holds vectors of other"):
        MilvusStore(address, NAME, "fake", 64)
    store = MilvusStore(address, NAME, "fake", 64, {"other": 16})
    assert (store.model, store.stats().passages, store.stats().documents) == ("other", COUNT, COUNT)
    assert store.passages([key for key, _ in store.sparse("kestrel", 3)])
    store.upsert([document("d1", "a heron is new", Other())])
    assert store.delete(["d2"]) == 1
    store.close()
    assert nearest(address, "a heron is new") == ("d1", "of d1")
    assert collection_names(address) == [NAME]


def test_milvus_rebuild_to_the_same_encoder_does_nothing(address: MilvusAddress) -> None:
    embedder = FakeEmbedder()
    assert rebuild(address, NAME, embedder) == 0
    assert embedder.batches == []


def test_milvus_rebuild_that_fails_leaves_the_old_vectors_and_goes_on_later(
    address: MilvusAddress,
) -> None:
    with pytest.raises(RuntimeError, match="gone"):
        rebuild(address, NAME, Other(fails_at=1))
    store = MilvusStore(address, NAME, "fake", 64)  # as it was, and it goes on
    assert store.stats().passages == COUNT
    store.delete(["d1"])
    store.upsert([document("new", "a heron is new", FakeEmbedder())])
    store.close()
    assert COUNT - PORTION <= rebuild(address, NAME, Other()) <= COUNT - PORTION + 1
    assert nearest(address, "a heron is new") == ("new", "of new")
    store = MilvusStore(address, NAME, "other", 16)
    assert store.stats().passages == COUNT
    store.close()


def test_milvus_rebuild_there_and_back_ends_where_it_began(address: MilvusAddress) -> None:
    assert rebuild(address, NAME, Other()) == COUNT
    assert rebuild(address, NAME, FakeEmbedder()) == COUNT
    store = MilvusStore(address, NAME, "fake", 64)
    (key, _), *_ = store.dense(FakeEmbedder().embed([text_of(7)])[0], 1)
    assert store.passages([key])[key].document_id == "d7"
    store.close()


def test_milvus_rebuild_of_no_collection_is_refused(address: MilvusAddress) -> None:
    with pytest.raises(StoreError, match="no such collection"):
        rebuild(address, "none", Other())


def collections(address: MilvusAddress) -> set[str]:
    client = address.connect()
    try:
        return set(client.list_collections())
    finally:
        client.close()


def test_milvus_rebuild_leaves_no_passages_of_earlier_ones_behind(
    address: MilvusAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    MilvusStore(address, "a-b_c", "fake", 64).close()  # another one, whose name begins alike
    before = collections(address)
    with monkeypatch.context() as killed:
        killed.setattr(module, "_drop_all_but", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rebuild(address, NAME, Other())
    assert rebuild(address, NAME, Other()) == 0
    (new,) = collections(address) - before
    assert collections(address) == before - {"livemind_p_aDb"} | {new}
    with pytest.raises(RuntimeError, match="gone"):
        rebuild(address, NAME, Third(fails_at=1))
    assert rebuild(address, NAME, FakeEmbedder()) == COUNT
    assert len(collections(address)) == len(before)


class Third(Other):
    """One more encoder."""

    name = "third"


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt
