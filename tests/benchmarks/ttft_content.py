"""A ``ttft`` report made by the product's own formulas from answers that are data."""

from __future__ import annotations

import json
import random
from typing import Any

from livemind.benchmarks.figures.answer import Answer
from livemind.benchmarks.figures.identity import Comparison
from livemind.benchmarks.figures.measure import Slo
from livemind.benchmarks.figures.turns import BlockResult, CaseResult, Turn
from livemind.benchmarks.harness.experts import EXPERTS
from livemind.benchmarks.harness.report import SCHEMA
from livemind.benchmarks.ttft.summary import ablation_summary, report_cases, report_turns
from livemind.benchmarks.workload.arms import ARMS, Arm
from livemind.benchmarks.workload.plan import Plan, ablation_blocks

Json = dict[str, Any]
COMMIT_S = 100.0
WAIT_MS = {"A": 700.0, "B": 40.0, "E": 12.0}


def content(
    seed: int = 1,
    conversations: int = 70,
    *,
    experts: tuple[str, ...] = ("random",),
    slower: dict[str, float] | None = None,
    failing: dict[int, str] | None = None,
) -> Json:
    """Return a report as it is read from a file.

    ``slower``: arm -> factor on its time to first token; ``failing``: conversation -> error of E.
    """
    arms = tuple(ARMS[name] for name in "ABE")
    blocks = ablation_blocks(arms, conversations, 1)
    plan = Plan(tuple(EXPERTS[name] for name in experts), blocks, seed=seed)
    results = []
    for case in plan.cases():
        result = CaseResult(case)
        for block in blocks:
            asked = BlockResult(block)
            for arm in arms:
                for number in block.conversations:
                    error = (failing or {}).get(number) if arm.id == "E" else None
                    factor = (slower or {}).get(arm.id, 1.0)
                    answer = _answer(arm, seed, number, factor, error, case.expert.expert_id)
                    asked.turns.append(Turn(arm, number, 0, 0, "x" * (40 + number), 0.2, answer))
            result.blocks.append(asked)
        results.append(result)
    cases = report_cases(results, Slo(), overlap=False, seed=seed)
    found = {
        "schema": SCHEMA,
        "name": "ttft",
        "commit": "0123abc",
        "machine": {"cpu": "one", "cores": 2, "load_average_1m": 0.1},
        "versions": {"python": "3.11.7", "vllm": None},
        "seed": seed,
        "config": {"arms": ["A", "B", "E"], "turns": conversations, "max_tokens": 32},
        "interrupted": False,
        "failure": None,
        "arms": {arm.id: {"title": arm.title, "reference": arm.id == "A"} for arm in arms},
        "harness": {
            "self_check": [{"name": "chat", "error_ms": {"p50": 0.2, "p99": 0.4, "max": 0.5}}],
            "loop_late_ms": {"p50": 0.1, "p99": 0.5, "max": 2.0},
        },
        "cases": cases,
        "turns": report_turns(results),
        "interference": [],
        "summary": ablation_summary(cases, report_turns(results)),
    }
    again: Json = json.loads(json.dumps(found))
    return again


def _answer(
    arm: Arm, seed: int, number: int, factor: float, error: str | None, expert: str
) -> Answer:
    hard = random.Random(f"{seed}|{number}").uniform(0.5, 2.0)  # the same for every arm
    luck = random.Random(f"{seed}|{number}|{arm.id}|{factor}").gauss(1.0, 0.02)
    if error is not None:
        return Answer("failed", error=error, committed_s=COMMIT_S)
    first_s = COMMIT_S + WAIT_MS[arm.id] * hard * factor * luck / 1000.0
    answer = Answer("completed", committed_s=COMMIT_S, expert=expert)
    for piece in range(8):
        answer.take(first_s + 0.015 * piece, "word ")
    answer.ended_s = first_s + 0.12
    answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens = 1500, 9, 0
    if arm.id == "A":
        return answer
    answer.comparison = Comparison("different" if number % 9 == 8 else "identical")
    answer.keys_s = [COMMIT_S - 8.0 + 0.2 * key for key in range(40)]
    answer.cached_tokens = 1472
    prefill: Json = {"type": "prefill.updated", "expert": "e", "tokens_total": 1500}
    answer.events = [
        (COMMIT_S - 7.0 + 0.1 * step, {**prefill, "tokens_ready": 150 * step}) for step in range(11)
    ]
    answer.ledger = {"prefill_speculated": 1500, "prefill_adopted": 1480, "prefill_wasted": 20}
    answer.ledger["cost_multiplier"] = 1.0 + 0.001 * number
    if arm.id == "E":
        answer.events += _speculated()
        answer.draft_adopted = number % 3 != 0
        if answer.draft_adopted:
            answer.events.append((COMMIT_S + 0.001, {"type": "draft.adopted", "tokens": 5}))
    return answer


def _speculated() -> list[tuple[float, Json]]:
    route: Json = {"type": "route.updated", "expert": "e", "confidence": 0.9}
    found: Json = {"type": "retrieval.updated", "passages": [{"id": "p_1"}], "stable": True}
    return [
        (COMMIT_S - 6.5, {**route, "stable": False}),
        (COMMIT_S - 5.0, {**route, "stable": True}),
        (COMMIT_S - 4.0, found),
        (COMMIT_S - 0.5, {"type": "draft.created", "expert": "e"}),
    ]
