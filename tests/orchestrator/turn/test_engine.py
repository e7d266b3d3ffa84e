"""The engine by itself: what it does with actions that follow each other closely."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from livemind.backends.base import Message
from livemind.backends.fake import FakeExpert
from livemind.backends.pool.pool import Pool
from livemind.backends.spec import ExpertSpec
from livemind.orchestrator.events import ResponseTextDelta
from livemind.orchestrator.gate import SpeculationGate
from livemind.orchestrator.routing.router import Router
from livemind.orchestrator.turn.engine import Engine
from livemind.orchestrator.turn.shared import Shared
from livemind.orchestrator.turn.values import Prefill

WORDS = (Message("user", " ".join(f"word{number}" for number in range(40)) + " "),)


class Heard:
    """Remembers what was prefilled; the rest is of no interest here."""

    def __init__(self) -> None:
        self.ready: dict[tuple[str, int], int] = {}

    def prefilled(self, expert: str, revision: int, ready: int, *rest: object) -> None:
        self.ready[expert, revision] = ready

    def __getattr__(self, name: str) -> Any:
        return lambda *given: None


@pytest.mark.parametrize("between_s", [None, 0.0, 0.05], ids=["at once", "a tick", "later"])
def test_prefill_aimed_away_and_back_is_taken_up_again(
    virtual_run: Any, between_s: float | None
) -> None:
    async def main() -> None:
        fakes = {
            name: FakeExpert(name, prefill_token_s=0.002, block_tokens=4) for name in ("a", "b")
        }
        specs = [ExpertSpec(name, model_path="fake") for name in fakes]
        heard = Heard()
        async with Pool(
            specs, create=lambda spec: fakes[spec.expert_id], max_loaded=2, warm=list(fakes)
        ) as pool:
            shared = Shared(pool, Router(None, {}, (), "a"), SpeculationGate(8, 4, 25))
            async with Engine(shared, heard, "s", "s") as engine:
                for revision, name in enumerate("aba", 1):
                    engine.prefill(Prefill((name,), WORDS, revision, 10_000))
                    if revision == 1:
                        await asyncio.sleep(0.01)
                    elif between_s is not None:
                        await asyncio.sleep(between_s)
                await asyncio.sleep(1.0)
        assert heard.ready["a", 3] == 40

    virtual_run(main())


@asynccontextmanager
async def open_engine(
    heard: Heard, *fakes: FakeExpert, warm: Sequence[str] = ("a", "b")
) -> AsyncIterator[Engine]:
    by_name = {fake.expert_id: fake for fake in fakes}
    specs = [ExpertSpec(name, model_path="fake") for name in by_name]
    create = lambda spec: by_name[spec.expert_id]  # noqa: E731
    async with Pool(specs, create=create, max_loaded=2, warm=list(warm)) as pool:
        shared = Shared(pool, Router(None, {}, (), "a"), SpeculationGate(8, 4, 25))
        async with Engine(shared, heard, "s", "s") as engine:
            yield engine


def slow(name: str, group: str = "local", start_s: float = 0.0) -> FakeExpert:
    return FakeExpert(
        name, prefill_token_s=0.002, block_tokens=4, compute_group=group, start_s=start_s
    )


@pytest.mark.parametrize(("group", "of_b"), [("local", 0), ("elsewhere", 40)])
def test_likeliest_expert_is_served_first_where_hardware_is_shared(
    virtual_run: Any, group: str, of_b: int
) -> None:
    async def main() -> None:
        heard = Heard()
        async with open_engine(heard, slow("a"), slow("b", group)) as engine:
            engine.prefill(Prefill(("a", "b"), WORDS, 1, 10_000))
            while heard.ready.get(("a", 1), 0) < 40:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            assert heard.ready.get(("b", 1), 0) == of_b
            await asyncio.sleep(1.0)
            assert heard.ready["b", 1] == 40

    virtual_run(main())


def test_expert_that_is_being_loaded_is_not_waited_for(virtual_run: Any) -> None:
    async def main() -> None:
        heard = Heard()
        async with open_engine(heard, slow("a", start_s=60.0), slow("b"), warm=["b"]) as engine:
            engine.prefill(Prefill(("a", "b"), WORDS, 1, 10_000))
            await asyncio.sleep(0.5)
            assert heard.ready == {("b", 1): 40}

    virtual_run(main())


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    targets=st.lists(
        st.tuples(st.permutations(["a", "b"]), st.integers(1, 2), st.floats(0, 0.05)),
        min_size=1,
        max_size=8,
    )
)
def test_prefill_of_two_experts_is_served_whatever_their_order_was_before(
    virtual_run: Any, targets: list[tuple[list[str], int, float]]
) -> None:
    async def main() -> None:
        heard = Heard()
        async with open_engine(heard, slow("a"), slow("b")) as engine:
            for revision, (names, count, between_s) in enumerate(targets):
                engine.prefill(Prefill(tuple(names[:count]), WORDS, revision, 10_000))
                await asyncio.sleep(between_s)
            await asyncio.sleep(1.0)
            newest = {(name, len(targets) - 1) for name in targets[-1][0][: targets[-1][1]]}
            assert {heard.ready.get(each, 40) for each in newest} == {40}
            tasks = [running.task for running in engine._prefills.values()]
            assert all(task is not None and task.done() for task in tasks)

    virtual_run(main())


def test_router_that_never_hurries_does_not_hold_the_commit(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    """A router of the embedding program; the default expert answers meanwhile."""

    async def main() -> None:
        fakes = [FakeExpert(name, prefill_token_s=0.01, token_s=0.02) for name in ("fast", "other")]
        async with live.open_stage(*fakes) as stage, stage.session() as session:
            stage.router.delay_s = 30.0
            began_s = asyncio.get_running_loop().time()
            stream = session.commit("hello big world")
            async for event in stream:
                if isinstance(event, ResponseTextDelta):
                    break
            waited_s = asyncio.get_running_loop().time() - began_s
            rest = [event async for event in stream]
            assert live.done_of(rest).status == "completed"
            assert waited_s < 3.0

    virtual_run(main())
