"""Calls of fifty turns on the embedded experts, with and without partial transcripts in one run.

``make test-live`` runs them, and prints how long the first words took; LIVEMIND_SERVER_PYTHON is
the interpreter that has vLLM, where the frameworks have an environment of their own.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

import livemind
from livemind.benchmarks.harness.server_process import running
from livemind.orchestrator.config.file import read_json

from .replay import Record, barge_in_after_s, script

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.asyncio(loop_scope="module"),
]
TURNS = int(os.environ.get("LIVEMIND_LIVE_TURNS", "50"))
WORD_S = 0.08
CONFIG = Path(livemind.__file__).parent / "configs" / "tiny.json"
SAMPLING = {"max_tokens": 24, "temperature": 0}
Call = AbstractAsyncContextManager[Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Serve the embedded experts with the sample handbook."""
    python = os.environ.get("LIVEMIND_SERVER_PYTHON", sys.executable)
    command = (python, "-m", "livemind.orchestrator.cli")
    folder = tmp_path_factory.mktemp("served")
    config = read_json(CONFIG)
    assert isinstance(config, dict)
    async with running(config, folder, command=command) as served:
        yield served


def livekit_arms(url: str) -> tuple[Call, Call]:
    pytest.importorskip("livekit.agents")
    plugin = pytest.importorskip("livekit.plugins.openai")
    from livemind.integrations.livekit import LiveMindLLM

    from .livekit_headless import room

    ours = LiveMindLLM(url, sampling=SAMPLING, session={"retrieval": True})
    body = {"max_tokens": SAMPLING["max_tokens"], "retrieval": True}
    plain = plugin.LLM(
        model="auto", base_url=f"{url}/v1", api_key="none", temperature=0, extra_body=body
    )
    return room(ours, speed=1, word_s=WORD_S), room(plain, speed=1, word_s=WORD_S)


def pipecat_arms(url: str) -> tuple[Call, Call]:
    pytest.importorskip("pipecat")
    from pipecat.services.openai.llm import OpenAILLMService
    from pipecat.services.settings import LLMSettings

    from livemind.integrations.pipecat import LiveMindLLMService

    from .pipecat_headless import INSTRUCTIONS, phone

    settings = LLMSettings(system_instruction=INSTRUCTIONS, **SAMPLING)
    ours = LiveMindLLMService(url, settings=settings, session={"retrieval": True})
    theirs = OpenAILLMService.Settings(
        model="auto",
        system_instruction=INSTRUCTIONS,
        extra={"extra_body": {"retrieval": True}},
        **SAMPLING,
    )
    plain = OpenAILLMService(base_url=f"{url}/v1", api_key="none", settings=theirs)
    return phone(ours, speed=1, word_s=WORD_S), phone(plain, speed=1, word_s=WORD_S)


async def refusals(url: str) -> list[str]:
    """Return the server's counts of requests that were answered with 4xx; 499 = client gone."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return [
        line for line in lines if re.search(r'^livemind_\w*requests\w*_total.*"4(?!99)\d\d"', line)
    ]


@pytest.mark.parametrize("arms", [livekit_arms, pipecat_arms], ids=["livekit", "pipecat"])
async def test_call_of_fifty_turns_with_interruptions_loses_no_turn_and_no_word(
    url: str, arms: Callable[[str], tuple[Call, Call]], record_property: Callable[[str, Any], None]
) -> None:
    spoken = script(TURNS)
    ours, plain = arms(url)
    async with ours as first, plain as second:
        for begin in range(0, TURNS, 3):
            for call in (first, second):
                for turn in range(begin, min(begin + 3, TURNS)):
                    await call.turn(spoken[turn], barge_in_after_s=barge_in_after_s(turn))
    for name, arm in (("with partials", first.record), ("without", second.record)):
        record_property(f"ttft_ms.p50, {name}", arm.p50_ms)
        print(f"{name}: p50 {arm.p50_ms:.0f} ms, {len(arm.ttft_ms)} answers")
    record: Record = first.record
    assert record.silent == 0
    assert record.interrupted == TURNS // 3 + (TURNS % 3 == 2)
    # blanks at the beginning of an answer are kept by one and trimmed by the other
    assert [*map(str.strip, record.answers)] == [*map(str.strip, record.heard)]
    assert await refusals(url) == []
