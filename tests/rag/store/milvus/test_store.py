"""What the store on Milvus does when a write breaks off or nothing answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from livemind.rag.documents.chunking import Chunk, digest
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.store.base import Document, StoreError, StoreUnavailable
from livemind.rag.store.milvus import schema, store as milvus
from livemind.rag.store.milvus.schema import IDENTITY, TOKEN_VARIABLE, MilvusAddress, address_of
from livemind.rag.store.milvus.store import MilvusStore

EMBEDDER = FakeEmbedder()


def doc(name: str, text: str) -> Document:
    chunk = Chunk(f"p_{digest(name + text, 8)}", text, 3, digest(text))
    return Document(name, name, digest(text), (chunk,), EMBEDDER.embed([text]))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MilvusStore]:
    pytest.importorskip("pymilvus", reason="the extra livemind[milvus] is not installed")
    manager = pytest.importorskip(
        "milvus_lite.server_manager", reason="milvus-lite is not installed"
    ).server_manager_instance
    store = MilvusStore(MilvusAddress(str(tmp_path / "lite.db")), "a-b_c", "fake", 64)
    store.upsert([doc("a", "kestrel port")])
    yield store
    store.close()
    manager.release_all()


def test_milvus_collection_of_an_earlier_version_goes_on_without_titles(
    store: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymilvus import CollectionSchema

    adds = CollectionSchema.add_field

    def add_field(self: Any, field_name: str, *args: Any, **options: Any) -> Any:
        return self if field_name == schema.TITLE else adds(self, field_name, *args, **options)

    address = MilvusAddress(store._client._config.uri)
    with monkeypatch.context() as earlier:
        earlier.setattr(CollectionSchema, "add_field", add_field)
        MilvusStore(address, "earlier", "fake", 64).close()
    again = MilvusStore(address, "earlier", "fake", 64)
    again.upsert([doc("a", "kestrel port")])
    (found,) = again.passages([key for key, _ in again.sparse("kestrel", 1)]).values()
    assert (found.text, found.title) == ("kestrel port", "")
    again.close()


def test_milvus_write_that_breaks_off_before_its_moment_changes_nothing(
    store: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymilvus import MilvusException

    def fails(*_: Any, **__: Any) -> None:
        raise MilvusException(message="kestrel secret")

    address = MilvusAddress(store._client._config.uri)
    version = store.version
    with monkeypatch.context() as broken:
        broken.setattr(store._client, "upsert", fails)
        broken.setattr(
            store, "_remove_quietly", lambda expression: None
        )  # a crash cleans up nothing
        with pytest.raises(StoreUnavailable, match="failed") as caught:
            store.upsert([doc("a", "falcon nest"), doc("b", "falcon egg")])
    assert "secret" not in str(caught.value)
    assert (store.version, store.hashes(["b"])) == (version, {})
    strays = [key for key, _ in store.sparse("falcon", 9)]
    assert len(strays) == 2
    assert store.passages(strays) == {}
    (kept,) = store.passages([key for key, _ in store.sparse("kestrel", 9)]).values()
    assert kept.text == "kestrel port"
    store.upsert([doc("a", "osprey"), doc("b", "osprey")])
    assert store.sparse("falcon kestrel", 9) == []
    assert milvus.collection_names(address) == ["a-b_c"]


def test_milvus_write_whose_answer_is_lost_is_whole(
    store: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymilvus import MilvusException

    real = store._client.upsert

    def written_but_not_heard_of(*given: Any, **named: Any) -> None:
        real(*given, **named)
        raise MilvusException(code=4, message="deadline exceeded")

    with monkeypatch.context() as lossy:
        lossy.setattr(store._client, "upsert", written_but_not_heard_of)
        with pytest.raises(StoreUnavailable):
            store.upsert([doc("a", "falcon nest")])
    (found,) = store.passages([key for key, _ in store.sparse("falcon kestrel", 9)]).values()
    assert found.text == "falcon nest"


def test_milvus_document_with_the_identitys_id_is_refused(store: MilvusStore) -> None:
    with pytest.raises(ValueError, match="the store's own"):
        store.upsert([doc(IDENTITY, "falcon")])


def test_milvus_nothing_answers_is_said_without_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pymilvus", reason="the extra livemind[milvus] is not installed")
    monkeypatch.setattr(schema, "CONNECT_S", 0.3)
    with pytest.raises(StoreUnavailable, match="no Milvus answers"):
        milvus.collection_names(MilvusAddress("http://127.0.0.1:1"))


def test_milvus_package_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(StoreError, match=r"pip install 'livemind\[milvus\]'"):
        MilvusAddress("http://127.0.0.1:1").connect()


def test_milvus_address_takes_its_token_from_the_environment_and_hides_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "root:secret")
    address = address_of("https://db:19530")
    assert (address.token, address.is_lite) == ("root:secret", False)
    assert "secret" not in repr(address)
    with pytest.raises(StoreError, match="milvus: got 'db:19530', need"):
        address_of("db:19530")
