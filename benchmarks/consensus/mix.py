"""What drafts made while a question is typed are worth: typists of several kinds, one figure.

Every question is typed as its text stands, with a mark at its end or without, at the speed and with
the pauses of its typist; the arms get the same keys. Whether a draft is the whole answer at the
commit, a guess at it, or not there follows from that.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace

from ..workload.typing_model import cadence
from .ask import FIRST, GREEDY, Asked, Way
from .drafts import verdict_of
from .plan import Recorder
from .questions import Question
from .rows import row

CADENCES = ("typing-240", "typing-400", "typing-600", "pauses-400", "edits-400")
"""They take turns, question by question."""
AT_A_TIME = 4
"""Typists. An answer takes a hundredth of the time that its question is typed in."""
ARMS = ("alone", "first", "draft")
"""The routed expert without drafts; one that is the answer as soon as the text stays as it is; and
one that may also be verified."""


async def mix(recorder: Recorder) -> None:
    """Let the typists work through the questions."""
    plan = recorder.plan
    left = iter(plan.questions.natural(plan.mix, plan.seed + 4))
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_A_TIME):
            group.create_task(_type(recorder, left))


async def _type(recorder: Recorder, left: Iterator[Question]) -> None:
    for question in left:
        kind = CADENCES[question.number % len(CADENCES)]
        rng = random.Random(f"{recorder.plan.seed}|{question.number}|{kind}")
        typist = cadence(kind)
        keys, think_s = question.keys(typist, rng), typist.think_s(rng)
        settled = recorder.plan.policy("draft", question)
        ways = {
            "alone": Way(question.leader, FIRST, GREEDY, "prefill", keys, think_s),
            "first": Way(question.leader, FIRST, GREEDY, "draft", keys, think_s),
            "draft": Way(question.leader, settled, GREEDY, "draft", keys, think_s),
        }
        got: dict[str, Asked] = {}
        for arm, way in recorder.shuffled(ways, question.number):
            got[arm] = await recorder.asker.ask(question, way)
        for arm in ARMS:
            found = row("mix", arm, question, got[arm], kind=kind)
            if arm != "alone":
                verdict = await verdict_of(recorder.asker, question, got["alone"], got[arm])
                found = replace(found, verdict=verdict)
            recorder.keep(found, question, got[arm], judged=True)
        recorder.step("mix")
