"""The collections of one bridge: made once, however many ask for them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.encoder.kinds import EncoderKind
from livemind.rag.encoder.worker import EmbedWorker
from livemind.rag.search.library import Incoming, Library
from livemind.rag.store.base import PassageStore, StoreError
from livemind.rag.store.local.store import LocalStore


async def test_library_first_writes_at_once_open_one_store(tmp_path: Path) -> None:
    """The loop hears of a store only after the writer's thread has begun the next write."""
    opened: list[str] = []
    embedder = FakeEmbedder()

    def open_store(name: str) -> PassageStore:
        opened.append(name)
        place = tmp_path / f"{name}-{len(opened)}"
        return LocalStore(place, embedder.name, embedder.dim)

    library = Library(open_store, [], embedder)
    try:
        stores = await asyncio.gather(*(library.create("news") for _ in range(8)))
        assert opened == ["news"]
        assert len({id(store) for store in stores}) == 1
        documents = [Incoming(f"a{n}", f"a{n}.txt", "txt", b"hello there") for n in range(8)]
        done = await asyncio.gather(*(library.ingest("other", [one]) for one in documents))
        assert [dict(found) for found in done] == [{one.id: 1} for one in documents]
        assert opened == ["news", "other"]
    finally:
        await library.aclose()


class Other(FakeEmbedder):
    """Another encoder, of fewer dimensions."""

    name = "other"

    def __init__(self) -> None:
        super().__init__(16)


async def test_library_collections_keep_the_encoder_that_they_record(tmp_path: Path) -> None:
    first = Library.in_folder(tmp_path, Other())
    await first.ingest("old", [Incoming("a", "a.txt", "txt", b"the port of kestrel")])
    await first.aclose()
    kind = EncoderKind("other", 16, Other, Other)
    library = Library.in_folder(tmp_path, FakeEmbedder(), others=[kind])
    shared = EmbedWorker(FakeEmbedder())
    try:
        await library.ingest("old", [Incoming("b", "b.txt", "txt", b"a heron by the pond")])
        await library.ingest("new", [Incoming("b", "b.txt", "txt", b"a heron by the pond")])
        old, new = library.store("old"), library.store("new")
        assert (old.model, new.model) == ("other", "fake")
        assert library.asks_with(new, shared) is shared
        for store in (old, new):
            vector = await library.asks_with(store, shared).embed("a heron by the pond")
            (key, score), *_ = store.dense(vector, 1)
            assert store.passages([key])[key].document_id == "b"
            assert score > 0.99
    finally:
        await shared.aclose()
        await library.aclose()


def test_library_collection_of_an_encoder_that_is_not_here_is_named(tmp_path: Path) -> None:
    LocalStore(tmp_path / "old", "other", 16).close()
    with pytest.raises(StoreError, match=r"old holds vectors of other .*bridge rebuild"):
        Library.in_folder(tmp_path, FakeEmbedder())


async def test_library_tells_how_many_passages_of_a_document_are_encoded(tmp_path: Path) -> None:
    library = Library.in_folder(tmp_path, FakeEmbedder())
    seen: list[tuple[int, int]] = []
    text = "\n\n".join(f"# Part {n}\n\nThe port is {n}." for n in range(150))
    try:
        long = Incoming("long.md", "long.md", "md", text.encode())
        await library.ingest("news", [long], lambda done, of: seen.append((done, of)))
        assert seen == [(0, 150), (64, 150), (128, 150), (150, 150)]
    finally:
        await library.aclose()
