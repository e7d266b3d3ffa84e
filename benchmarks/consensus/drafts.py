"""What a verified draft changes: nothing in the text, and how much in the time.

The draft is what the expert said to the text that stood there before the question was whole.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

from ..figures.identity import Explanation, Verdict, compare
from ..workload.typing_model import Key
from . import questions as made
from .ask import GREEDY, Asked, Asker, Way
from .plan import WARM_UP_SEED, Plan, Recorder, batches
from .questions import Question
from .rows import row

AT_A_TIME = 16
TOGETHER_WAIT_S = 1.5
"""Time for the drafts of ``AT_A_TIME`` sessions on two cores."""
WAIT_S = 0.75
KINDS = ("right", "pause", "wrong")
"""The question without its mark; a pause after a word of its second half; another question."""


async def texts(recorder: Recorder) -> None:
    """Compare texts, in many sessions at a time."""
    plan = recorder.plan
    for some in batches(plan.questions.natural(plan.identical, plan.seed + 1), AT_A_TIME):
        await _texts(recorder, some)


async def times(recorder: Recorder) -> None:
    """Compare times, one session at a time."""
    plan = recorder.plan
    await _warm_up(recorder)
    asked = plan.questions.natural(plan.pairs, plan.seed + 2)
    for place, question in enumerate(asked):
        await _times(recorder, made.with_its_end(question), asked[place - 1].text)
        recorder.step("times")


async def verdict_of(
    asker: Asker, question: Question, first: Asked, other: Asked
) -> Verdict | None:
    """Return whether two answers to a question read the same, None if one is not there.

    Where they differ the routed expert is asked for its logprobs: it may be a tie.
    """
    if not first.outcome == other.outcome == "completed":
        return None
    verdict = compare(first.text, other.text).verdict
    if verdict == "different":
        told = await asker.explained(question, Way(question.leader))
        verdict = compare(first.text, other.text, Explanation(told.text, told.logprobs)).verdict
    return verdict


async def _warm_up(recorder: Recorder) -> None:
    plan = recorder.plan
    for question in plan.questions.natural(2 * len(plan.domains), plan.seed + WARM_UP_SEED):
        for policy in ("first", "draft"):
            text = made.without_its_end(question.text)
            await recorder.asker.ask(question, _after(plan, question, policy, text, WAIT_S))


async def _texts(recorder: Recorder, some: Sequence[Question]) -> None:
    """Answer alone, and along drafts: of nearly the question and of another one, in turns."""
    befores = [_before(some, place) for place in range(len(some))]
    alone = await asyncio.gather(*(recorder.asker.ask(one, Way(one.leader)) for one in some))
    drafted = await asyncio.gather(
        *(
            recorder.asker.ask(one, _after(recorder.plan, one, "draft", text, TOGETHER_WAIT_S))
            for one, (_, text) in zip(some, befores, strict=True)
        )
    )
    for question, (kind, _), first, draft in zip(some, befores, alone, drafted, strict=True):
        verdict = await verdict_of(recorder.asker, question, first, draft)
        found = row("identical", "draft", question, draft, kind=kind)
        recorder.keep(replace(found, verdict=verdict), question, draft, judged=False)
        recorder.step("texts")


async def _times(recorder: Recorder, question: Question, other: str) -> None:
    rng = random.Random(f"{recorder.plan.seed}|{question.number}|pause")
    before = {
        "right": made.without_its_end(question.text),
        "pause": question.pasted + made.paused(question.typed, rng),
        "wrong": other,
    }
    ways = {
        (policy, kind): _after(recorder.plan, question, policy, before[kind], WAIT_S)
        for kind in KINDS
        for policy in ("first", "draft")
    }
    for (policy, kind), way in recorder.shuffled(ways, question.number):
        await recorder.ask("pairs", policy, question, way, kind=kind)


def _before(some: Sequence[Question], place: int) -> tuple[str, str]:
    """Return what stands there before a question, and what kind of draft that makes."""
    if place % 2:
        return "right", made.without_its_end(some[place].text)
    return "wrong", some[place - 1].text


def _after(plan: Plan, question: Question, policy: str, text: str, wait_s: float) -> Way:
    """Return the way to ask after another text has stood there for a while."""
    key = Key(0.0, text, replaces=True)
    settled = plan.policy(policy, question)
    return Way(question.leader, settled, GREEDY, "draft", (key,), wait_s)
