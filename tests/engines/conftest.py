"""Servers of other engines that run on this machine, as remote experts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from rich.console import Console

from livemind.benchmarks.cpu.bench import DEFAULT_MODEL
from livemind.benchmarks.cpu.engines import LLAMA_CPP, LlamaCpp, llama_cpp
from livemind.benchmarks.cpu.model import model_of
from livemind.benchmarks.peers.programs import Installed, installed

STREAMS = 4


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def llama(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LlamaCpp]:
    """llama.cpp's server with SmolLM2."""
    peer = await installed(LLAMA_CPP, print)
    assert isinstance(peer, Installed), peer
    model = model_of(DEFAULT_MODEL, Console())
    log: Path = tmp_path_factory.mktemp("llama") / "server.log"
    async with llama_cpp(peer, model.gguf, log, 2, STREAMS) as engine:
        yield engine
