"""The bridge that ``livemind serve`` starts when the configuration wants one and none answers."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from livemind.backends.fake import FakeExpert
from livemind.orchestrator.cli.errors import CommandError
from livemind.orchestrator.cli.serve import missing_bridge
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.live_mind import LiveMind
from livemind.rag.access.token import shared_token
from livemind.rag.encoder.fake import FakeEmbedder


def mind_with(
    bridge_url: str, corpus: Path | None = None, *, enabled: bool = True, data: Path | None = None
) -> LiveMind:
    rag: dict[str, Any] = {"enabled": enabled, "bridge_url": bridge_url}
    rag |= {"corpus": corpus, "data": data}
    experts = [{"expert_id": name, "model_path": "fake"} for name in ("a", "b")]
    settings = Settings.model_validate({"experts": experts, "rag": rag})
    return LiveMind(settings, create=lambda spec: FakeExpert(spec.expert_id), embedder=FakeEmbedder)


def free_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


async def test_bridge_that_is_missing_is_started_over_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("# Kestrel\n\nThe port of Kestrel is 4100.\n")
    url = free_url()
    async with (
        mind_with(url, tmp_path) as mind,
        missing_bridge(mind, FakeEmbedder()) as started,
        aiohttp.ClientSession() as http,
    ):
        assert started == url
        async with http.get(f"{url}/v1/collections") as response:
            found = (await response.json())["collections"][0]
        assert found["documents"] == 1
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))


async def test_bridge_that_is_started_over_the_corpus_takes_documents_and_leaves_the_folder(
    tmp_path: Path,
) -> None:
    (tmp_path / "notes.md").write_text("# Kestrel\n\nThe port of Kestrel is 4100.\n")
    url, more = free_url(), {"documents": [{"id": "more.md", "text": "# Osprey\n\nAn owl."}]}
    documents = f"{url}/v1/collections/default/documents"
    async with mind_with(url, tmp_path) as mind:
        async with missing_bridge(mind, FakeEmbedder()), aiohttp.ClientSession() as http:
            bearer = {"Authorization": f"Bearer {shared_token()}"}
            async with http.post(documents, json=more, headers=bearer) as answer:
                assert answer.status == 200, await answer.text()
            async with http.get(documents) as answer:
                found = [one["id"] for one in (await answer.json())["documents"]]
            assert found == ["more.md", "notes.md"]
        assert os.listdir(tmp_path) == ["notes.md"]
        async with missing_bridge(mind, FakeEmbedder()), aiohttp.ClientSession() as http:
            async with http.get(documents) as answer:
                again = [one["id"] for one in (await answer.json())["documents"]]
            assert again == ["notes.md"]


async def test_bridge_of_the_same_documents_that_answers_already_is_used(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("# Kestrel\n\nThe port of Kestrel is 4100.\n")
    url = free_url()
    async with (
        mind_with(url, tmp_path) as first,
        missing_bridge(first, FakeEmbedder()) as started,
        mind_with(url, tmp_path) as second,
        missing_bridge(second, FakeEmbedder()) as again,
    ):
        assert (started, again) == (url, None)


async def test_bridge_of_other_documents_that_answers_already_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.md").write_text("# Kestrel\n\nThe port of Kestrel is 4100.\n")
    url = free_url()
    async with (
        mind_with(url, tmp_path / "a") as first,
        missing_bridge(first, FakeEmbedder()),
        mind_with(url, tmp_path / "b") as second,
    ):
        with pytest.raises(CommandError, match="from other documents"):
            async with missing_bridge(second, FakeEmbedder()):
                pass


async def test_bridge_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.md").write_text("# Kestrel\n\nThe port of Kestrel is 4100.\n")
    url = free_url()
    async with mind_with(url, tmp_path) as mind, missing_bridge(mind, FakeEmbedder()):
        monkeypatch.setenv("LIVEMIND_BRIDGE_TOKEN", "somebody else's token")
        async with mind_with(url, tmp_path) as other:
            with pytest.raises(CommandError, match="does not prove"):
                async with missing_bridge(other, FakeEmbedder()):
                    pass


async def test_listener_that_never_answers_is_no_bridge() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with mind_with(url) as mind:
            with pytest.raises(CommandError, match="does not prove"):
                async with missing_bridge(mind, FakeEmbedder()):
                    pass


async def test_page_of_another_site_cannot_write_and_the_token_can(tmp_path: Path) -> None:
    url = free_url()
    mind = mind_with(url, data=tmp_path / "kept")
    body = {"documents": [{"id": "a.md", "text": "kestrel port"}]}
    documents = f"{url}/v1/collections/notes/documents"
    async with mind, missing_bridge(mind, FakeEmbedder()), aiohttp.ClientSession() as http:
        async with http.post(documents, json=body) as refused:
            assert refused.status == 401
        token = shared_token()
        async with http.post(
            documents, json=body, headers={"Authorization": f"Bearer {token}"}
        ) as stored:
            assert stored.status == 200


async def test_listener_that_is_no_bridge_is_refused_with_its_address() -> None:
    async with TestServer(web.Application()) as other, mind_with(str(other.make_url(""))) as mind:
        with pytest.raises(CommandError, match=f":{other.port}"):
            async with missing_bridge(mind, FakeEmbedder()):
                pass


@pytest.mark.parametrize("url", ["http://bridge.example:8001", "https://127.0.0.1:1"])
async def test_bridge_of_another_machine_is_never_started_here(url: str) -> None:
    async with mind_with(url) as mind, missing_bridge(mind, FakeEmbedder()) as started:
        assert started is None


async def test_bridge_without_retrieval_is_not_started() -> None:
    async with (
        mind_with(free_url(), enabled=False) as mind,
        missing_bridge(mind, FakeEmbedder()) as started,
    ):
        assert started is None


async def test_bridge_with_a_corpus_that_is_not_there_says_so(tmp_path: Path) -> None:
    async with mind_with(free_url(), tmp_path / "none") as mind:
        with pytest.raises(CommandError, match="the bridge cannot start"):
            async with missing_bridge(mind, FakeEmbedder()):
                pass
