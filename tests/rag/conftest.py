"""A real bridge on a loopback socket, over a small corpus and an encoder without a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from livemind.rag.bridge.server import serve_bridge
from livemind.rag.documents.corpus import Corpus, split
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.encoder.worker import EmbedWorker
from livemind.rag.search.library import Library

HANDBOOK = """\
## Kestrel
The port of Kestrel is 361.
## Osprey
The owner of Osprey is Mara.
## Heron
The colour of Heron is blue.
"""


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
async def library(embedder: FakeEmbedder, tmp_path: Path) -> AsyncIterator[Library]:
    library = Library.in_folder(tmp_path / "library", embedder)
    await library.add_corpus(
        "default", Corpus(tuple(split("handbook.md", HANDBOOK.encode())), "v1")
    )
    embedder.batches.clear()
    yield library
    embedder.gate.set()
    await library.aclose()


@pytest.fixture
async def worker(embedder: FakeEmbedder) -> AsyncIterator[EmbedWorker]:
    worker = EmbedWorker(embedder, max_queue=3, cache_size=2)
    yield worker
    embedder.gate.set()
    await worker.aclose()


@pytest.fixture
async def bridge_url(library: Library, worker: EmbedWorker) -> AsyncIterator[str]:
    async with serve_bridge(library, worker, port=0) as url:
        yield url


@pytest.fixture
async def http(bridge_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=bridge_url, trust_env=False) as client:
        yield client


@pytest.fixture
async def dead_url() -> str:
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    return f"http://127.0.0.1:{port}"
