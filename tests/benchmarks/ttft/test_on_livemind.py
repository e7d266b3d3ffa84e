"""The harness against LiveMind's own server on scripted experts: both sides speak one protocol."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from livemind.backends.fake import FakeExpert
from livemind.backends.spec import ExpertSpec
from livemind.benchmarks.figures.measure import Slo
from livemind.benchmarks.harness.client import Client
from livemind.benchmarks.harness.doors import BareDoor
from livemind.benchmarks.harness.experts import (
    EMBEDDED,
    RANDOM,
    random_model_folder,
    server_config,
    with_fast_expert,
    with_retrieval,
    with_routing,
)
from livemind.benchmarks.harness.library import Library
from livemind.benchmarks.harness.targets import Targets
from livemind.benchmarks.ttft.interference import Interference
from livemind.benchmarks.ttft.quick import interference_cases, quick_summary
from livemind.benchmarks.ttft.run import TtftRun
from livemind.benchmarks.ttft.summary import ablation_summary, report_cases, report_turns
from livemind.benchmarks.ttft.targets import livemind_doors
from livemind.benchmarks.workload.arms import ARMS
from livemind.benchmarks.workload.conversations import corpus
from livemind.benchmarks.workload.plan import DRAFT, Plan, ablation_blocks, quick_blocks
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.live_mind import LiveMind
from livemind.orchestrator.server.app import create_app
from livemind.rag.client.client import BridgeClient
from livemind.rag.documents.corpus import read_corpus
from livemind.rag.encoder.fake import FakeEmbedder


def _expert(spec: ExpertSpec) -> FakeExpert:
    return FakeExpert(spec.expert_id, prefill_token_s=0.001, token_s=0.001)


def _bridge(folder: Path) -> web.Application:
    """Find the two passages that share most words with a question."""
    passages = read_corpus(folder).passages

    async def retrieve(request: web.Request) -> web.Response:
        asked = await request.json()
        words = set(asked["query"].lower().split())
        best = sorted(passages, key=lambda p: (-len(words & set(p.text.lower().split())), p.id))
        results = [
            {"id": p.id, "source": p.source, "text": p.text, "score": 0.5, "rank": rank}
            for rank, p in enumerate(best[:2], 1)
        ]
        told = {"revision": asked["revision"], "index_version": "1", "results": results}
        return web.json_response({**told, "degraded": [], "timings_ms": {}, "request_id": None})

    app = web.Application()
    app.router.add_post("/v1/retrieve", retrieve)
    return app


@pytest.fixture(autouse=True)
def _short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livemind.benchmarks.ttft.run.WARM_UP_PAUSE_S", 0.1)
    monkeypatch.setattr("livemind.benchmarks.ttft.run.WARM_UP_CPM", 60_000.0)


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = server_config([RANDOM])
    assert found["experts"][0]["model_path"] == str(random_model_folder())
    return found


async def test_quick_every_turn_completes_identically_and_faster(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livemind.benchmarks.workload.plan.DRAFT", replace(DRAFT, pause_s=0.6))
    plan = Plan(
        experts=(RANDOM,),
        blocks=quick_blocks(1),
        cadences=("typing-6000",),
        documents_tokens=(200,),
        settle_s=0.0,
        interference_pairs=1,
        typists=2,
        typists_lead_s=0.8,
    )
    async with (
        LiveMind(Settings.model_validate(config), create=_expert) as mind,
        TestServer(create_app(mind)) as server,
        Client(str(server.make_url("/"))) as client,
    ):
        run = TtftRun(plan, lambda text, done: None)
        await run.run(Targets(livemind_doors(client)))
        interference = Interference(run, client)
        await interference.run()
    results = list(run.results.values())
    cases = report_cases(results, Slo(), overlap=False, seed=1)
    streams = interference_cases(interference.results)
    rows = report_turns(results)
    summary = quick_summary(cases, rows, streams)
    assert {row["error"] for row in rows} == {None}
    assert {row["outcome"] for row in rows} == {"completed"}
    arms = cases[0]["arms"]
    assert arms["request-at-end"]["cached_tokens_max"] == 0
    assert arms["live"]["cached_tokens_p50"] > 100
    assert arms[DRAFT.id]["lead_ms"]["prefill"]["p50"] > 0
    assert summary["ttft.identical_share"] == 1.0
    assert summary["ttft.adopted_share"] == 1.0
    live = summary["ttft.live_over_request_at_end.p50"]
    assert live is not None
    assert live < 0.6
    assert streams[0]["typist_errors"] == []
    assert streams[0]["typists_prefilled_tokens_p50"] > 100


async def test_ablation_retrieving_arms_are_judged_on_the_documents_they_found(
    tmp_path: Path,
) -> None:
    experts = [RANDOM, EMBEDDED]  # with a single one there is nothing to route
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "filler.md").write_text(corpus("filler", 1, 2, 80))
    arms = tuple(ARMS[name] for name in "ALBCDEFP")
    plan = Plan(
        experts=(replace(RANDOM, alone=False),),
        blocks=ablation_blocks(arms, 1, 1),
        cadences=("typing-6000",),
        documents_tokens=(50,),
        settle_s=0.0,
    )
    bare = _expert(ExpertSpec(RANDOM.expert_id))
    await bare.start()
    async with TestServer(_bridge(folder)) as bridge_server:
        url = str(bridge_server.make_url("")).rstrip("/")
        routed = with_fast_expert(with_routing(server_config(experts), experts, 1))
        full = with_retrieval(routed, url, folder, 2)
        router = {**full["router"], "stable_confidence": 0.0}
        settings = Settings.model_validate({**full, "router": router})
        async with (
            LiveMind(settings, create=_expert, embedder=FakeEmbedder) as mind,
            TestServer(create_app(mind)) as server,
            Client(str(server.make_url("/"))) as client,
            BridgeClient(url, top_k=2, min_score=settings.rag.min_score) as bridge,
        ):
            doors = {**livemind_doors(client), "bare": BareDoor({RANDOM.expert_id: bare})}
            run = TtftRun(plan, lambda text, done: None)
            await run.run(Targets(doors, Library(folder, bridge)))
    await bare.stop()
    (case,) = report_cases(run.results.values(), Slo(), overlap=False, seed=1)
    rows = report_turns(run.results.values())
    assert {(row["outcome"], row["error"]) for row in rows} == {("completed", None)}
    summary = ablation_summary([case], rows)
    assert summary["ttft.identical_share"] == 1.0
    for arm in "BCDEFP":
        pair = case["pairs"]["A"][arm]
        assert (pair["identical"], pair["other_prompt"]) == (1, 0), arm
    assert case["arms"]["C"]["lead_ms"]["route"]["n"] > 0
    assert case["arms"]["C"]["lead_ms"]["retrieval"]["n"] == 0
    assert all(len(row["documents"]) == 2 for row in rows if row["arm"] in "DEF")


def test_server_config_of_both_experts_is_valid_and_loads_both() -> None:
    experts = [RANDOM, EMBEDDED]
    settings = Settings.model_validate(with_routing(server_config(experts), experts, 1))
    assert [expert.expert_id for expert in settings.experts] == ["random-100m", "technical"]
    assert settings.lazy_loading.warmup_pool_size == 2
    assert settings.domains.keys() == {"travel", "technical"}


def test_server_config_with_the_fast_expert_is_valid_and_loads_it_too() -> None:
    config = with_fast_expert(with_routing(server_config([EMBEDDED]), [EMBEDDED], 1))
    settings = Settings.model_validate(config)
    assert [expert.expert_id for expert in settings.experts] == ["technical", "fast"]
    assert settings.router.fast_expert == "fast"
    assert settings.lazy_loading.warmup_pool_size == 2
