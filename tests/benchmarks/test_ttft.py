"""The harness against a server with known latencies: orders and counts, never absolute times."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from livemind.benchmarks.bench import BenchmarkFailed
from livemind.benchmarks.client import Client
from livemind.benchmarks.experts import EMBEDDED, RANDOM
from livemind.benchmarks.summary import summarize
from livemind.benchmarks.ttft import (
    CASES,
    DRAFT,
    INTERFERENCE,
    LIVE,
    PASTE,
    PREFILL,
    Plan,
    TtftRun,
)
from livemind.benchmarks.typing_model import TypingModel

from .fake_server import FakeServer

QUICK = Plan(
    experts=(RANDOM,),
    turns=2,
    typing=TypingModel(60_000, think_ms=1.0),
    documents_tokens=100,
    draft_pause_s=0.0,
    settle_s=0.0,
    interference_pairs=2,
    typists=2,
    typists_lead_s=0.01,
)


@asynccontextmanager
async def _client(server: FakeServer) -> AsyncIterator[Client]:
    async with TestServer(server.app()) as running, aiohttp.ClientSession() as http:
        yield Client(http, str(running.make_url("/")), timeout_s=20.0)


async def _run(server: FakeServer, plan: Plan) -> tuple[list[Any], dict[str, Any], TtftRun]:
    async with _client(server) as client:
        run = TtftRun(plan, client, lambda text, done: None)
        await run.run()
    cases, summary = summarize(run.results, plan.seed)
    return cases, summary, run


async def test_run_known_latencies_give_their_ratios() -> None:
    server = FakeServer(chat_s=0.2, typed_s=0.0, paste_s=0.4, tie=0.0)
    _, summary, _ = await _run(server, replace(QUICK, cases=(LIVE, DRAFT, PASTE)))
    live = summary["ttft.live_over_request_at_end.p50"]
    paste = summary["ttft.paste_over_request_at_end.p50"]
    assert 0 < live < 0.5
    assert paste > 1.4
    assert summary["ttft.identical_share"] == 1.0
    assert summary["ttft.adopted_first_token_ms.p50"] == 1.5
    assert summary["ttft.adopted_share"] == 1.0


async def test_run_slower_stream_beside_typing_shows_in_the_gap_ratio() -> None:
    server = FakeServer(token_s=0.02, token_s_beside_typing=0.08)
    cases, summary, _ = await _run(server, replace(QUICK, cases=(INTERFERENCE,)))
    assert summary["itl.with_typing_over_without.p95"] > 2
    assert summary["ttft.live_over_request_at_end.p50"] is None
    (case,) = [case for case in cases if case["name"] == "interference"]
    assert (case["typists"], case["typists_failed"]) == (4, 0)


async def test_run_every_arm_asks_the_same_prompt_under_its_own_salt() -> None:
    server = FakeServer()
    await _run(server, replace(QUICK, cases=(LIVE,), turns=1))
    chat, update = server.chats[-1], server.updates[-1]
    assert chat["documents"] == update["documents"]
    assert chat["messages"][0]["content"] == server.typed[-1]
    assert {k: chat[k] for k in update["sampling"]} == update["sampling"]
    assert chat["speculation"] == "off"
    salts = [body["cache_salt"] for body in (*server.chats, *server.updates)]
    assert len(set(salts)) == len(salts)


async def test_run_failed_turns_are_counted_and_leave_the_ratios() -> None:
    # Commit 0 is the warm-up; of the two measured pastes one fails.
    server = FakeServer(fail_live_turns=frozenset({1}))
    plan = replace(QUICK, cases=(PASTE,), turns=1, paste_blocks=2)
    cases, _, _ = await _run(server, plan)
    arm, pair = cases[0]["arms"][PASTE], cases[0]["pairs"][PASTE]
    assert (arm["completed"], arm["failed"], arm["errors"]) == (1, 1, ["engine died"])
    assert (pair["asked"], len(pair["ratios"])) == (2, 1)


async def test_run_socket_that_closes_is_incomplete_and_summary_unknown() -> None:
    cases, summary, _ = await _run(FakeServer(drop_live=True), replace(QUICK, cases=(PASTE,)))
    assert cases[0]["arms"][PASTE]["incomplete"] == 4
    assert summary["ttft.paste_over_request_at_end.p50"] is None
    assert summary["ttft.identical_share"] is None


@pytest.mark.parametrize(("tie", "expected"), [(0.01, 1.0), (0.5, 0.0)], ids=["tie", "wrong"])
async def test_run_other_text_is_identical_only_as_a_tie(tie: float, expected: float) -> None:
    server = FakeServer(live_answer="one 2 three", tie=tie)
    _, summary, _ = await _run(server, replace(QUICK, cases=(LIVE,)))
    assert summary["ttft.identical_share"] == expected
    assert summary["ttft.identical_share_strict"] == 0.0


async def test_run_refused_warm_up_names_expert_and_reason() -> None:
    with pytest.raises(BenchmarkFailed, match=r"random-100m.*HTTP 400: documents: unknown field"):
        await _run(FakeServer(refuse_chat="documents: unknown field"), QUICK)


async def test_run_two_experts_have_their_own_keys_and_the_announced_steps() -> None:
    plan = replace(QUICK, experts=(RANDOM, EMBEDDED), turns=1)
    _, summary, run = await _run(FakeServer(), plan)
    asked = sum(len(block.answers) for one in run.results for block in one.blocks)
    streams = sum(len(one.foregrounds) for one in run.results)
    assert asked + streams == run.steps
    plain = {key for key in summary if not key.endswith(".embedded")}
    assert {f"{key}.embedded" for key in plain} == summary.keys() - plain


async def test_run_same_seed_asks_the_same_in_the_same_order() -> None:
    orders = []
    for _ in range(2):
        _, _, run = await _run(FakeServer(), replace(QUICK, cases=CASES[:3]))
        orders.append([list(block.answers) for block in run.results[0].blocks])
    assert orders[0] == orders[1]


async def test_run_prefill_arm_types_with_drafts_off() -> None:
    server = FakeServer()
    await _run(server, replace(QUICK, cases=(PREFILL,)))
    modes = [update["speculation"] for update in server.updates]
    assert modes == ["draft", "prefill"]  # the warm-up, then the one odd turn


async def test_run_draft_without_a_token_at_commit_is_not_adopted() -> None:
    _, summary, _ = await _run(FakeServer(draft_tokens=0), replace(QUICK, cases=(DRAFT,)))
    assert summary["ttft.adopted_share"] == 0.0
    assert summary["ttft.adopted_first_token_ms.p50"] is None
