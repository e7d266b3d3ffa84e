"""The harness against a server with known latencies: orders and counts, never absolute times."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from livemind.benchmarks.bench import BenchmarkFailed
from livemind.benchmarks.figures.measure import Slo
from livemind.benchmarks.harness.client import Client
from livemind.benchmarks.harness.doors import ChatDoor
from livemind.benchmarks.harness.experts import EMBEDDED, RANDOM
from livemind.benchmarks.harness.targets import Targets
from livemind.benchmarks.ttft.interference import Interference
from livemind.benchmarks.ttft.quick import interference_cases, quick_summary
from livemind.benchmarks.ttft.run import TtftRun
from livemind.benchmarks.ttft.summary import ablation_summary, report_cases, report_turns
from livemind.benchmarks.ttft.targets import livemind_doors
from livemind.benchmarks.workload.arms import ARMS, B, C, E, F, L, P, V
from livemind.benchmarks.workload.arrivals import Arrivals
from livemind.benchmarks.workload.conversations import Conversation
from livemind.benchmarks.workload.plan import (
    DRAFT,
    INTERFERENCE,
    LIVE,
    PASTE,
    PREFILL,
    QUICK_CASES,
    Plan,
    ablation_blocks,
    quick_blocks,
)

from ..scripted_server import ScriptedServer

SHORT = Plan(
    experts=(RANDOM,),
    blocks=(),
    cadences=("typing-60000",),
    documents_tokens=(100,),
    settle_s=0.0,
    typists=2,
    typists_lead_s=0.01,
)
ALL = (L, B, E, P)


@pytest.fixture(autouse=True)
def _short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livemind.benchmarks.ttft.run.WARM_UP_PAUSE_S", 0.0)
    monkeypatch.setattr("livemind.benchmarks.ttft.run.WARM_UP_CPM", 600_000.0)
    monkeypatch.setattr("livemind.benchmarks.workload.plan.DRAFT", replace(DRAFT, pause_s=0.0))


@asynccontextmanager
async def _client(server: ScriptedServer) -> AsyncIterator[Client]:
    async with (
        server.serving() as url,
        Client(url, timeout_s=20.0) as client,
    ):
        yield client


async def _run(server: ScriptedServer, plan: Plan) -> TtftRun:
    async with _client(server) as client:
        run = TtftRun(plan, lambda text, done: None)
        await run.run(Targets({**livemind_doors(client), "openai": ChatDoor(client, "text")}))
    return run


async def _quick(
    server: ScriptedServer, turns: int, *cases: str, **changed: Any
) -> tuple[list[Any], dict[str, Any], TtftRun]:
    pairs = 2 if INTERFERENCE in cases else 0
    blocks = quick_blocks(turns, cases)
    plan = replace(SHORT, blocks=blocks, interference_pairs=pairs, **changed)
    async with _client(server) as client:
        run = TtftRun(plan, lambda text, done: None)
        await run.run(Targets(livemind_doors(client)))
        interference = Interference(run, client)
        await interference.run()
    results = list(run.results.values())
    found = report_cases(results, Slo(), overlap=False, seed=1)
    streams = interference_cases(interference.results)
    return [*found, *streams], quick_summary(found, report_turns(results), streams), run


async def _ablation(
    server: ScriptedServer, count: int = 2, **changed: Any
) -> tuple[dict[str, Any], dict[str, Any], TtftRun]:
    arms = changed.pop("arms", ALL)
    blocks = ablation_blocks(arms, count, changed.pop("per_block", 1))
    run = await _run(server, replace(SHORT, blocks=blocks, **changed))
    overlap = run.plan.arrivals.overlap
    cases = report_cases(run.results.values(), Slo(10_000.0), overlap=overlap, seed=1)
    return cases[0], ablation_summary(cases, report_turns(run.results.values())), run


# ---- quick


async def test_quick_known_latencies_give_their_ratios() -> None:
    server = ScriptedServer(chat_s=0.2, typed_s=0.0, paste_s=0.4, tie=0.0)
    _, summary, _ = await _quick(server, 1, LIVE.id, DRAFT.id, PASTE.id)
    assert 0 < summary["ttft.live_over_request_at_end.p50"] < 0.5
    assert summary["ttft.paste_over_request_at_end.p50"] > 1.4
    assert summary["ttft.identical_share"] == 1.0
    assert summary["ttft.adopted_first_token_ms.p50"] == 1.5
    assert summary["ttft.adopted_share"] == 1.0


async def test_quick_slower_stream_beside_typing_shows_in_the_gap_ratio() -> None:
    server = ScriptedServer(token_s=0.02, token_s_beside_typing=0.2)
    cases, summary, _ = await _quick(server, 1, INTERFERENCE)
    assert summary["itl.with_typing_over_without.p95"] > 2
    assert summary["ttft.live_over_request_at_end.p50"] is None
    assert (cases[-1]["typists"], cases[-1]["typists_failed"]) == (4, 0)


async def test_quick_two_experts_have_their_own_keys_and_the_announced_steps() -> None:
    _, summary, run = await _quick(ScriptedServer(), 1, *QUICK_CASES, experts=(RANDOM, EMBEDDED))
    assert run.done == run.plan.steps()
    plain = {key for key in summary if not key.endswith(".embedded")}
    assert {f"{key}.embedded" for key in plain} == summary.keys() - plain


async def test_quick_prefill_arm_types_with_drafts_off() -> None:
    server = ScriptedServer()
    await _quick(server, 2, PREFILL.id)
    modes = [update["speculation"] for update in server.updates]
    assert modes == ["prefill", "prefill"]  # the warm-up, then the one odd turn


async def test_quick_draft_without_a_token_at_commit_is_not_adopted() -> None:
    _, summary, _ = await _quick(ScriptedServer(draft_tokens=0), 1, DRAFT.id)
    assert summary["ttft.adopted_share"] == 0.0
    assert summary["ttft.adopted_first_token_ms.p50"] is None


# ---- ablation


async def test_ablation_every_arm_asks_the_same_prompt_under_its_own_salt() -> None:
    server = ScriptedServer()
    await _ablation(server, 1, arms=(L, B))
    chat, update = server.chats[-1], server.updates[-1]
    assert chat["documents"] == update["documents"]
    assert chat["messages"][0]["content"] == server.typed[-1]
    assert {k: chat[k] for k in update["sampling"]} == update["sampling"]
    assert chat["speculation"] == "off"
    salts = [body["cache_salt"] for body in (*server.chats, *server.updates)]
    assert len(set(salts)) == len(salts)


async def test_ablation_plain_server_gets_standard_fields_and_a_first_line_of_its_own() -> None:
    server = ScriptedServer()
    await _ablation(server, 2, arms=(V,))
    standard = {"model", "messages", "stream", "stream_options", "max_tokens", "temperature"}
    assert all(body.keys() - {"ignore_eos"} <= standard for body in server.chats)
    contents = [body["messages"][0]["content"] for body in server.chats]
    assert len({content.splitlines()[0] for content in contents}) == len(contents)
    assert all("[1] " in content for content in contents)


async def test_ablation_arms_differ_in_one_thing_each() -> None:
    server = ScriptedServer()
    await _ablation(server, 1, arms=tuple(ARMS[name] for name in "LBCDEF"), experts=(EMBEDDED,))
    asked = {
        (
            u["model"] == "auto",
            u["retrieval"],
            u["speculation"],
            u["consensus"],
            bool(u["documents"]),
        )
        for u in server.updates
    }
    assert asked == {
        (False, False, "prefill", "first", True),
        (True, False, "prefill", "first", True),
        (True, True, "prefill", "first", False),
        (True, True, "draft", "first", False),
        (True, True, "draft", "auto", False),
    }


async def test_ablation_consensus_is_not_asked_of_a_lone_expert_and_the_case_says_why() -> None:
    server = ScriptedServer()
    case, summary, _ = await _ablation(server, 1, arms=(L, E, F))
    assert {update["consensus"] for update in server.updates} == {"first"}
    assert case["not_asked"] == {"F": "no other expert shares this one's tokenizer"}
    assert summary["ttft.F_over_L.p50"] is None


async def test_ablation_failed_turns_are_counted_and_leave_the_ratios() -> None:
    # Live commit 0 is the warm-up; of the two measured ones the first fails.
    case, _, _ = await _ablation(ScriptedServer(fail_live_turns=frozenset({1})), arms=(L, P))
    arm, pair = case["arms"]["P"], case["pairs"]["L"]["P"]
    assert (arm["completed"], arm["failed"], arm["errors"]) == (1, 1, ["engine died"])
    assert (arm["goodput_share"], pair["pairs"], len(pair["ratios"])) == (0.5, 1, 1)


async def test_ablation_socket_that_closes_is_incomplete_and_summary_unknown() -> None:
    case, summary, _ = await _ablation(ScriptedServer(drop_live=True), arms=(L, P))
    assert case["arms"]["P"]["incomplete"] == 2
    assert summary["ttft.P_over_L.p50"] is None
    assert summary["ttft.F_over_A.p50"] is None
    assert summary["ttft.identical_share"] is None


@pytest.mark.parametrize(("tie", "expected"), [(0.01, 1.0), (0.5, 0.0)], ids=["tie", "wrong"])
async def test_ablation_other_text_is_identical_only_as_a_tie(tie: float, expected: float) -> None:
    server = ScriptedServer(live_answer="one 2 three", tie=tie)
    _, summary, _ = await _ablation(server, arms=(L, P))
    assert summary["ttft.identical_share"] == expected
    assert summary["ttft.identical_share_strict"] == 0.0


@pytest.mark.parametrize(("tokens", "other_work"), [(50, 2), (200, 0)], ids=["less", "more"])
async def test_ablation_other_prompt_is_different_and_a_shorter_one_has_no_ratio(
    tokens: int, other_work: int
) -> None:
    """P is given the documents of L: another length is a fault, whatever the answer's text."""
    case, summary, _ = await _ablation(ScriptedServer(prompt_tokens_live=tokens), arms=(L, P))
    pair = case["pairs"]["L"]["P"]
    assert (pair["pairs"], pair["other_work"], pair["other_prompt"]) == (2, other_work, 0)
    assert (pair["different"], summary["ttft.identical_share"]) == (2, 0.0)
    assert len(pair["ratios"]) == 2 - other_work


async def test_ablation_other_prompt_of_a_retrieving_arm_has_no_verdict() -> None:
    case, summary, _ = await _ablation(ScriptedServer(prompt_tokens_live=200), arms=(L, E))
    assert case["pairs"]["L"]["E"]["other_prompt"] == 2
    assert summary["ttft.identical_share"] is None


async def test_ablation_misrouted_turns_are_counted_and_leave_ratios_and_verdicts() -> None:
    case, summary, _ = await _ablation(ScriptedServer(), arms=(L, C), experts=(EMBEDDED,))
    assert case["arms"]["C"]["misrouted"] == 2  # the fake always says random-100m
    assert case["pairs"]["L"]["C"]["ratios"] == []
    assert summary["ttft.identical_share"] is None


async def test_ablation_conversation_goes_on_in_one_session_with_its_history() -> None:
    server = ScriptedServer()
    _, _, run = await _ablation(server, 1, arms=(L, P), turns_per_conversation=2)
    rows = report_turns(run.results.values())
    assert sorted((row["arm"], row["turn"]) for row in rows) == [
        ("L", 0), ("L", 1), ("P", 0), ("P", 1),
    ]  # fmt: skip
    last = server.chats[-1]["messages"]
    assert [message["role"] for message in last] == ["user", "assistant", "user"]
    assert last[1]["content"] == "one two three"
    assert server.updates[-1]["documents"] == []
    assert "model" not in server.updates[-1]


async def test_ablation_users_at_a_time_overlap_and_have_a_throughput() -> None:
    server = ScriptedServer(typed_s=0.05)
    arrivals = Arrivals("closed", concurrency=4)
    case, _, run = await _ablation(server, 4, arms=(L, P), per_block=4, arrivals=arrivals)
    assert server.most_at_a_time == 4
    assert case["arms"]["L"]["throughput_tokens_per_s"] > 0
    assert {row["user"] for row in report_turns(run.results.values())} == {0, 1, 2, 3}


async def test_ablation_open_loop_users_do_not_wait_for_each_others_answers() -> None:
    server = ScriptedServer(paste_s=1.0)
    arrivals = Arrivals("constant", rate_per_s=40.0)
    await _ablation(server, 4, arms=(L, P), per_block=4, arrivals=arrivals)
    assert server.most_at_a_time == 4


async def test_ablation_own_prompts_are_asked_in_turn() -> None:
    prompts = (
        Conversation(("One?",), max_tokens=5),
        Conversation(("Two?",), instructions="Brief."),
    )
    server = ScriptedServer()
    await _ablation(server, 3, arms=(L, P), prompts=prompts, documents_tokens=(0,))
    asked = [chat["messages"][-1]["content"] for chat in server.chats]
    assert asked[-3:] == ["One?", "Two?", "One?"]
    assert server.chats[-1]["max_tokens"] == 5
    assert server.chats[-2]["messages"][0] == {"role": "system", "content": "Brief."}
    assert {update.get("instructions") for update in server.updates} == {None, "Brief."}


async def test_ablation_rows_tell_what_happened_around_the_commit() -> None:
    _, _, run = await _ablation(ScriptedServer(), 1, arms=(L, E))
    (row,) = [row for row in report_turns(run.results.values()) if row["arm"] == "E"]
    line = row["timeline"]
    assert len(line["keys_ms"]) == row["typed_chars"]
    assert max(line["keys_ms"]) < 0
    kinds = [event["type"] for event in line["events"]]
    assert kinds[-4:] == ["commit", "draft.adopted", "first_token", "done"]
    assert row["drafts"]["adopted_tokens"] == 3


async def test_ablation_same_seed_asks_the_same_in_the_same_order() -> None:
    orders = []
    for _ in range(2):
        _, _, run = await _ablation(ScriptedServer(), 8, arms=(L, P, V))
        (result,) = run.results.values()
        orders.append([[turn.arm.id for turn in block.turns] for block in result.blocks])
    assert orders[0] == orders[1]


async def test_run_refused_warm_up_names_expert_and_reason() -> None:
    with pytest.raises(BenchmarkFailed, match=r"random-100m.*HTTP 400: documents: unknown field"):
        await _ablation(ScriptedServer(refuse_chat="documents: unknown field"))
