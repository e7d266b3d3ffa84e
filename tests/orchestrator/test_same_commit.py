"""I11 and I5: the committed text alone decides the prompt, and every turn ends within its limits.

Retrievals and routes take another time at every call, fail, hang, and come back out of order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from livemind.backends.base import Message
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.events import ResponseDone
from livemind.orchestrator.routing.estimate import RouteEstimate
from livemind.orchestrator.routing.selection import NO_CONTEXT, RouteContext
from livemind.orchestrator.session import SessionOptions
from livemind.orchestrator.turn.engine import RETRIEVAL_GRACE_S
from livemind.orchestrator.turn.values import Policy
from livemind.rag.base import RetrievalResult

from .conftest import WordRetriever, WordRouter

TEXTS = {name: f"{name} " * 9 for name in ("ruby", "kestrel", "wren", "violet", "port")}
FINALS = (
    "what is the port of ruby",
    "ruby",
    "the wren and the kestrel and the violet, please",
    "nothing that is found",
    "kestrel port",
)
WORDS = [*TEXTS, "what", "is", "the", "of", "a", "por", "please", "and then"]
SLACK_S = 0.05


class UnsteadyRetriever(WordRetriever):
    """Takes another time at every call; sometimes fails, or does not heed its deadline."""

    def __init__(self, chance: random.Random, final: str, final_fails: bool) -> None:
        super().__init__(TEXTS)
        self.chance, self.final, self.final_fails = chance, final, final_fails

    async def retrieve(
        self, query: str, *, revision: int, partial: bool, deadline_ms: float, session_id: str
    ) -> RetrievalResult:
        good = not partial and query == self.final.strip() and not self.final_fails
        fate = "answers" if good else self.chance.choice(("answers",) * 4 + ("fails", "hangs"))
        self.delay_s = 0.03 if good else self.chance.choice((0.0, 0.01, 0.05, 0.2, 0.5))
        if fate == "fails":
            await asyncio.sleep(self.delay_s)
            raise OSError("the store is gone")
        if fate == "hangs":
            try:
                await asyncio.sleep(3.0)
            except asyncio.CancelledError:
                await asyncio.sleep(3.0)
        return await super().retrieve(
            query,
            revision=revision,
            partial=partial,
            deadline_ms=deadline_ms,
            session_id=session_id,
        )


class UnsteadyRouter(WordRouter):
    """Takes another time at every call, and hangs at times."""

    def __init__(self, chance: random.Random, default: str) -> None:
        super().__init__({}, default)
        self.chance = chance

    async def estimate(self, text: str, context: RouteContext = NO_CONTEXT) -> RouteEstimate:
        await asyncio.sleep(self.chance.choice((0.0, 0.01, 0.05, 0.3, 5.0)))
        return RouteEstimate("strong", "general", 0.9)


def partials_of(chance: random.Random, final: str) -> list[str]:
    """Return what somebody may have typed or a recogniser sent before the final text."""
    said = []
    for _ in range(chance.randrange(0, 9)):
        if chance.random() < 0.5:
            said.append(final[: chance.randrange(len(final) + 4)])
        else:
            words = chance.choices(WORDS, k=chance.randrange(1, 9))
            said.append(" ".join(words) + chance.choice(("", " ", "?")))
    if chance.random() < 0.3:  # a backspace behind the final text
        said += [final, final + chance.choice(("x", " wren", ".")), final]
    return said


async def turn(
    live: SimpleNamespace, seed: int, final: str, kind: Any, consistency: str, final_fails: bool
) -> tuple[tuple[Message, ...], ResponseDone, float]:
    """Play one turn; return the prompt of the answer, its end and how long that took."""
    chance = random.Random(seed)
    prompts: list[tuple[Message, ...]] = []

    def record(messages: Sequence[Message]) -> str:
        prompts.append(tuple(messages))
        return "ok"

    expert = FakeExpert("strong", prefill_token_s=0.0005, answer=record)
    retriever = UnsteadyRetriever(chance, final, final_fails)
    async with live.open_stage(expert, retriever=retriever) as stage:
        stage.shared.router = UnsteadyRouter(chance, "strong")
        options = SessionOptions(retrieval=True, input_kind=kind)
        async with stage.session(options, consistency=consistency, fast=None) as session:
            for text in partials_of(chance, final):
                session.replace(text)
                if (wait_s := chance.choice((None, 0.0, 0.01, 0.1, 0.3, 0.8))) is not None:
                    await asyncio.sleep(wait_s)
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            done = live.done_of(await live.answer(session, final))
            took_s = loop.time() - begun_s
    return prompts[-1], done, took_s


LIMIT_S = (
    Policy().route_deadline_s  # a running estimate is waited for first
    + max(Policy().route_deadline_s, Policy().retrieve_deadline_s + RETRIEVAL_GRACE_S)
)
ANSWER_S = 0.5  # the fake's own time for a prompt and three letters


QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
KINDS = st.sampled_from([None, "typed", "transcript"])


def histories(count: int) -> st.SearchStrategy[list[int]]:
    """Return that many different sequences of partials, by their seeds."""
    return st.lists(st.integers(0, 2**32), min_size=count, max_size=count, unique=True)


async def check_same_prompt(live: SimpleNamespace, final: str, seeds: list[int], kind: Any) -> None:
    """Play one commit behind each sequence of partials and compare what the expert was asked."""
    played = [await turn(live, seed, final, kind, "final", False) for seed in seeds]
    # a commit that joined a partial query which then failed may have no time for another
    prompts = {prompt for prompt, done, _ in played if not done.degraded}
    assert len(prompts) <= 1
    for _, done, took_s in played:
        assert done.status == "completed", done
        assert done.documents.final == (not done.degraded)
        assert took_s <= LIMIT_S + ANSWER_S + SLACK_S


@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(final=st.sampled_from(FINALS), seeds=histories(3), kind=KINDS)
def test_same_commit_after_any_partials_gives_the_same_prompt_in_time(
    virtual_run: Any, live: SimpleNamespace, final: str, seeds: list[int], kind: Any
) -> None:
    virtual_run(check_same_prompt(live, final, seeds, kind))


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=500, deadline=None, suppress_health_check=QUIET)
@given(final=st.sampled_from(FINALS), seeds=histories(20), kind=KINDS)
def test_same_commit_after_twenty_histories_each_gives_the_same_prompt_in_time(
    virtual_run: Any, live: SimpleNamespace, final: str, seeds: list[int], kind: Any
) -> None:
    virtual_run(check_same_prompt(live, final, seeds, kind))


@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(
    final=st.sampled_from(FINALS),
    seed=st.integers(0, 2**32),
    kind=KINDS,
    consistency=st.sampled_from(["final", "early"]),
)
def test_commit_whose_retrieval_fails_ends_in_time_and_says_what_it_lacks(
    virtual_run: Any,
    live: SimpleNamespace,
    final: str,
    seed: int,
    kind: Any,
    consistency: str,
) -> None:
    async def main() -> None:
        _, done, took_s = await turn(live, seed, final, kind, consistency, True)
        assert done.status == "completed", done
        assert took_s <= LIMIT_S + ANSWER_S + SLACK_S
        if done.degraded:
            assert not done.documents.final

    virtual_run(main())


@pytest.mark.parametrize("ignored_s", [3.0])
def test_router_that_ignores_its_deadline_does_not_hold_the_commit(
    virtual_run: Any, live: SimpleNamespace, ignored_s: float
) -> None:
    async def main() -> None:
        class Stubborn(WordRouter):
            async def estimate(
                self, text: str, context: RouteContext = NO_CONTEXT
            ) -> RouteEstimate:
                ends_s = asyncio.get_running_loop().time() + ignored_s
                while (left_s := ends_s - asyncio.get_running_loop().time()) > 0:
                    try:
                        await asyncio.sleep(left_s)
                    except asyncio.CancelledError:
                        continue
                return RouteEstimate("strong", "general", 0.9)

        async with live.open_stage(FakeExpert("strong")) as stage:
            stage.shared.router = Stubborn({}, "strong")
            async with stage.session(fast=None) as session:
                begun_s = asyncio.get_running_loop().time()
                done = live.done_of(await live.answer(session, "a question"))
                took_s = asyncio.get_running_loop().time() - begun_s
        assert (done.status, done.expert) == ("completed", "strong")
        assert took_s < 1.0

    virtual_run(main())
