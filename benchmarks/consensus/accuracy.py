"""How right each arm is, and what it costs: whole questions, one at a time, nothing ahead."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from msgspec import structs

from ...backends.base import GenerationParams
from .ask import MAX_TOKENS, Asked, Way
from .plan import POLICIES, Recorder, batches
from .questions import Question
from .rows import Row, row

AT_A_TIME = 8
"""Questions of validation; each goes to every expert, and a LiveMind takes 64 answers at a time."""
SAMPLED = GenerationParams(max_tokens=MAX_TOKENS, temperature=0.7)


async def accuracy(recorder: Recorder) -> None:
    """Ask every expert alone, every policy, and the best single expert several times.

    The expert alone is also the policy ``first``; it is asked once for both.
    """
    plan = recorder.plan
    await _validate(recorder)
    single = best_single(recorder.rows)
    for question in plan.questions.measured(plan.per_set, plan.seed):
        ways = {f"alone.{expert}": Way(expert) for expert in plan.experts}
        ways |= {
            name: Way(question.leader, plan.policy(name, question))
            for name in POLICIES
            if name != "first"
        }
        asked_experts = 1
        for arm, way in recorder.shuffled(ways, question.number):
            asked = await recorder.ask("accuracy", arm, question, way, judged=True)
            if arm == "vote":
                asked_experts = _asked_experts(asked)
        await _samples(recorder, question, single[question.leader], asked_experts)
        recorder.step("accuracy")


def best_single(rows: Iterable[Row]) -> dict[str, str]:
    """Return for every domain which expert was right most often in its validation questions.

    Of equals the domain's own.
    """
    right: Counter[tuple[str, str]] = Counter()
    for one in rows:
        if one.part == "validation":
            right[one.domain, one.arm.removeprefix("alone.")] += bool(one.right)
    domains = dict.fromkeys(domain for domain, _ in right)
    return {
        domain: max(
            (expert for other, expert in right if other == domain),
            key=lambda expert: (right[domain, expert], expert == domain),
        )
        for domain in domains
    }


async def _validate(recorder: Recorder) -> None:
    """Ask other questions than those that are measured, many at a time."""
    plan = recorder.plan
    asked = plan.questions.validation(plan.validation * len(plan.domains), plan.seed)
    for some in batches(asked, AT_A_TIME):
        async with asyncio.TaskGroup() as group:
            for question in some:
                for expert in plan.experts:
                    way, arm = Way(expert), f"alone.{expert}"
                    group.create_task(recorder.ask("validation", arm, question, way, judged=True))
        for _ in some:
            recorder.step("choosing the best single expert")


async def _samples(recorder: Recorder, question: Question, expert: str, count: int) -> None:
    """Ask one expert ``count`` times at once: once greedily, else sampled; the majority answers.

    Of equals the one that came first in this order. Nothing can be shown before all are in.
    """
    ways = [Way(expert)]
    ways += [Way(expert, params=structs.replace(SAMPLED, seed=seed)) for seed in range(1, count)]
    got = await asyncio.gather(*(recorder.asker.ask(question, way) for way in ways))
    done = [one for one in got if one.outcome == "completed"]
    tally = Counter(one.text.strip() for one in done)
    most = max(tally.values(), default=0)
    chosen = next((one for one in done if tally[one.text.strip()] == most), got[0])
    last_ms = max((one.total_ms for one in done if one.total_ms is not None), default=None)
    whole = replace(chosen, ttft_ms=last_ms, total_ms=last_ms)
    found = row("accuracy", "samples", question, whole)
    generated = sum(one.shown_tokens or 0 for one in got)
    recorder.keep(replace(found, generated_tokens=generated), question, whole, judged=True)


def _asked_experts(asked: Asked) -> int:
    """Return how many experts were asked for their vote, heard or not; at least one."""
    if asked.record is None:
        return 1
    votes = {vote.expert for span in asked.record.spans for vote in span.votes}
    return max(1, len(votes | {one.expert for one in asked.record.abstained}))
