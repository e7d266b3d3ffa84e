"""The bridge that ``livemind serve`` starts when the configuration wants one and none answers."""

from __future__ import annotations

import asyncio
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
from livemind.rag.encoder.fake import FakeEmbedder


def mind_with(bridge_url: str, corpus: Path | None = None, *, enabled: bool = True) -> LiveMind:
    rag: dict[str, Any] = {"enabled": enabled, "bridge_url": bridge_url, "corpus": corpus}
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


async def test_bridge_that_answers_already_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        async with mind_with(url) as mind, missing_bridge(mind, FakeEmbedder()) as started:
            assert started is None


@pytest.mark.xfail(strict=True, reason="whatever listens there is taken for the bridge")
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
