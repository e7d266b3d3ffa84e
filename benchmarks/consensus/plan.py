"""How much the consensus benchmark asks, of whom, and where it keeps what it saw."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from msgspec import structs

from ...orchestrator.consensus.options import Consensus, Verdict
from ..harness.experts import FAST, expert_config, served, zoo_experts
from ..workload.plan import ExpertCase
from .ask import Asked, Asker, Way
from .model_questions import ModelQuestions
from .questions import EmbeddedQuestions, Question, Questions
from .rows import Row, row

PARTS = ("accuracy", "texts", "times", "mix", "typed")
ROWS_OF = {
    "accuracy": ("validation", "accuracy"),
    "texts": ("identical",),
    "times": ("pairs",),
    "mix": ("mix",),
    "typed": ("typed",),
}
POLICIES = {
    "first": Consensus("first"),
    "draft": Consensus("draft"),
    "verify": Consensus("verify"),
    "vote": Consensus("vote"),
}
WARM_UP_SEED = 2_000_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is asked, in questions.

    Attributes:
        domains: of the embedded experts; each is also the id of an expert. With ``models`` the
            one that is routed to.
        per_set: of each set and domain.
        validation: of each domain, to choose the best single expert.
        identical: in all, answered twice and compared as text.
        pairs: in all, timed with drafts made before the question was whole.
        mix: in all, typed by typists of several kinds, with drafts and without.
        typed: in all, typed at human speed.
        verdict: of ``verify``.
        models: asked instead of the embedded experts, the fast one first; empty = those.
    """

    domains: tuple[str, ...]
    parts: tuple[str, ...]
    per_set: int
    validation: int
    identical: int
    pairs: int
    mix: int
    typed: int
    seed: int
    verdict: Verdict = "continue"
    models: tuple[ExpertCase, ...] = ()

    @property
    def experts(self) -> tuple[str, ...]:
        """Ids of the experts, the fast one first."""
        return tuple(one.expert_id for one in self.models) or (FAST, *self.domains)

    @property
    def questions(self) -> Questions:
        """Where the questions come from."""
        if self.models:
            return ModelQuestions(self.domains[0])
        return EmbeddedQuestions(self.domains)

    def policy(self, name: str, question: Question) -> Consensus:
        """Return how a policy settles a question: a vote in the form that its answer has."""
        if name == "vote":
            return Consensus("vote", answer=question.form, labels=question.labels)
        return structs.replace(POLICIES[name], verdict=self.verdict)

    def steps(self) -> int:
        """Return how many questions all of it asks about."""
        domains = len(self.domains)
        sets = len(self.questions.sets)
        counts = {
            "accuracy": domains * (self.validation + sets * self.per_set),
            "texts": self.identical,
            "times": self.pairs,
            "mix": self.mix,
            "typed": self.typed,
        }
        return sum(counts[part] for part in self.parts)


@dataclass(slots=True)
class Recorder:
    """Asks and keeps; ``rows`` grows while the run lasts. ``step`` is called once a question."""

    plan: Plan
    asker: Asker
    step: Callable[[str], None]
    rows: list[Row] = field(default_factory=list)

    async def warm_up(self) -> None:
        """Let every expert and every policy run once, unrecorded."""
        plan = self.plan
        for question in plan.questions.natural(len(plan.domains), plan.seed + WARM_UP_SEED):
            for expert in plan.experts:
                await self.asker.ask(question, Way(expert))
            for name in POLICIES:
                await self.asker.ask(question, Way(question.leader, plan.policy(name, question)))

    async def ask(
        self, part: str, arm: str, question: Question, way: Way, *,
        judged: bool = False, kind: str | None = None,
    ) -> Asked:  # fmt: skip
        """Ask and keep a row; ``judged``: say whether the answer is right."""
        asked = await self.asker.ask(question, way)
        self.keep(row(part, arm, question, asked, kind=kind), question, asked, judged=judged)
        return asked

    def keep(self, found: Row, question: Question, asked: Asked, *, judged: bool) -> None:
        """Keep a row."""
        right = asked.outcome == "completed" and question.is_right(asked.text) if judged else None
        self.rows.append(replace(found, right=right))

    def shuffled(self, ways: Mapping[T, Way], number: int) -> list[tuple[T, Way]]:
        """Return the ways to ask a question in an order drawn from the seed."""
        rng = random.Random(f"{self.plan.seed}|{number}")
        return rng.sample(list(ways.items()), len(ways))


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the items in order, ``size`` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def settings(plan: Plan, engine_log: str) -> dict[str, Any]:
    """Return a configuration with the plan's experts, all loaded."""
    experts = zoo_experts(plan.experts, max_model_len=2048, engine_log=engine_log)
    if plan.models:
        limits = {"max_model_len": 2048, "kv_cache_gib": 0.5, "engine_log": engine_log}
        experts = [expert_config(one) | limits for one in plan.models]
    return served(
        experts,
        lazy_loading={"enabled": False, "memory_threshold": 1.0},
        router={"fast_expert": FAST, "default_expert": plan.domains[0]},
    )
