"""What is settled while a human types: every question under every policy with the same keys."""

from __future__ import annotations

import random

from ..workload.typing_model import TypingModel
from .ask import GREEDY, Way
from .plan import POLICIES, Recorder

CHARS_PER_MINUTE = 400.0


async def typed(recorder: Recorder) -> None:
    """Type, one session at a time."""
    plan = recorder.plan
    model = TypingModel(CHARS_PER_MINUTE)
    for question in plan.questions.natural(plan.typed, plan.seed + 3):
        rng = random.Random(f"{plan.seed}|{question.number}|keys")
        keys, think_s = question.keys(model, rng), model.think_s(rng)
        ways = {
            name: Way(question.leader, plan.policy(name, question), GREEDY, "draft", keys, think_s)
            for name in POLICIES
        }
        for arm, way in recorder.shuffled(ways, question.number):
            await recorder.ask("typed", arm, question, way, judged=True)
        recorder.step("typed")
