"""The collections of one bridge: made once, however many ask for them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.search.library import Incoming, Library
from livemind.rag.store.base import PassageStore
from livemind.rag.store.local.store import LocalStore


async def test_library_first_writes_at_once_open_one_store(tmp_path: Path) -> None:
    """The loop hears of a store only after the writer's thread has begun the next write."""
    opened: list[str] = []
    embedder = FakeEmbedder()

    def open_store(name: str) -> PassageStore:
        opened.append(name)
        place = tmp_path / f"{name}-{len(opened)}"
        return LocalStore(place, embedder.name, embedder.dim, embedder.embed)

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
