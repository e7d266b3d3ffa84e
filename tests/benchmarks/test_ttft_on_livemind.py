"""The harness against LiveMind's own server on scripted experts: both sides speak one protocol."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from livemind.backends.fake import FakeExpert
from livemind.backends.spec import ExpertSpec
from livemind.benchmarks.client import Client
from livemind.benchmarks.experts import EMBEDDED, RANDOM, random_model_folder, server_config
from livemind.benchmarks.summary import summarize
from livemind.benchmarks.ttft import Plan, TtftRun
from livemind.benchmarks.typing_model import TypingModel
from livemind.orchestrator.config import Settings
from livemind.orchestrator.live_mind import LiveMind
from livemind.orchestrator.server.app import create_app


def _expert(spec: ExpertSpec) -> FakeExpert:
    return FakeExpert(spec.expert_id, prefill_token_s=0.002, token_s=0.002)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = server_config([RANDOM])
    assert config["experts"][0]["model_path"] == str(random_model_folder())
    return Settings.model_validate(config)


async def test_run_every_turn_completes_identically_and_faster(settings: Settings) -> None:
    plan = Plan(
        experts=(RANDOM,),
        turns=1,
        typing=TypingModel(6000),
        documents_tokens=200,
        draft_pause_s=0.6,
        settle_s=0.0,
        paste_blocks=1,
        interference_pairs=1,
        typists=2,
        typists_lead_s=1.5,
    )
    async with (
        LiveMind(settings, create=_expert) as mind,
        TestServer(create_app(mind)) as server,
        aiohttp.ClientSession() as http,
    ):
        run = TtftRun(plan, Client(http, str(server.make_url("/"))), lambda text, done: None)
        await run.run()
    cases, summary = summarize(run.results, plan.seed)
    turns, interference = cases
    assert {row["error"] for row in turns["turns"]} == {None}
    assert {row["outcome"] for row in turns["turns"]} == {"completed"}
    assert turns["arms"]["request-at-end"]["cached_tokens_max"] == 0
    assert turns["arms"]["live"]["cached_tokens_p50"] > 100
    assert summary["ttft.identical_share"] == 1.0
    assert summary["ttft.adopted_share"] == 1.0
    live = summary["ttft.live_over_request_at_end.p50"]
    assert live is not None
    assert live < 0.6
    assert interference["typist_errors"] == []
    assert interference["typists_prefilled_tokens_p50"] > 100


def test_server_config_of_both_experts_is_valid_and_loads_both() -> None:
    settings = Settings.model_validate(server_config([RANDOM, EMBEDDED]))
    assert [expert.expert_id for expert in settings.experts] == ["random-100m", "technical"]
    assert settings.lazy_loading.warmup_pool_size == 2
